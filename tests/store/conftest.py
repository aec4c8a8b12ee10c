"""Small stores on memory and on disk."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from shardflow.store.config import Cutting, Settings
from shardflow.store.store import Store

SMALL = Settings(
    pack_bytes=64 << 10,
    chunk_bytes=16 << 10,
    inline_bytes=1 << 10,
    cutting=Cutting(minimum=512, mean=2048, maximum=8192),
)

_numbers = itertools.count()


@pytest.fixture(params=["memory", "file"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return f"shardflow://memory/test-{next(_numbers)}"
    return f"shardflow://file{tmp_path.resolve()}/store"


@pytest.fixture
def store(store_url: str) -> Store:
    """An empty store with small chunks and packs, on each backend that needs no server."""
    return Store.init(store_url, SMALL)


@pytest.fixture
def reopened(store_url: str) -> Callable[[], Store]:
    """Another process's view of the same store, as far as one process can show it."""
    return lambda: Store.find(store_url)[0]
