"""A URL for the checkpoints of one test, in a store whose chunks and packs are small, and a gate before it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flavor.checkpointing.samples import Gate
from shardflow.store.store import Store


@pytest.fixture
def url(store: Store) -> str:
    return f"{store.url}/run"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.opened.set()
