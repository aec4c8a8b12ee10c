"""A world of its own for every test: a small store with a clock."""

from __future__ import annotations

import pytest

from shardflow.store.store import Store
from store.care.world import World


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here tests what survives a power cut, and hundreds of crashes are played through."""
    monkeypatch.setenv("SHARDFLOW_FSYNC", "0")


@pytest.fixture
def world(fast_disk: None, store: Store) -> World:
    return World(store)
