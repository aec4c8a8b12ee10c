"""A base that the caller has in memory still is taken from there, if it is what the store has."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from shardflow.store.putting import put_sources
from shardflow.store.store import Store
from store.test_putting import Bytes

WORDS = 1 << 18


def weights(seed: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, 0.02, WORDS).astype(np.float32)


def saved(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [WORDS], "data_offsets": [0, values.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + values.tobytes()


def of(content: bytes) -> Callable[[int, int], memoryview | None]:
    return lambda offset, length: memoryview(content)[offset : offset + length]


@pytest.fixture
def first(store: Store) -> bytes:
    content = saved(weights(1))
    put_sources(store, [Bytes("one/w", content)], "one")
    return content


def second() -> bytes:
    return saved((weights(1) * np.float32(1.00001)).astype(np.float32))


def test_a_base_in_memory_is_not_fetched(store: Store, first: bytes) -> None:
    done = put_sources(store, [Bytes("two/w", second())], "two", base="one", held={"one/w": of(first)})
    assert done.bytes_on_bases > 0.9 * len(first)
    assert done.totals.bytes_received < 0.1 * len(first)
    assert store.open("two/w").read_at(0, len(first)) == second()


@pytest.mark.parametrize(
    "held",
    [
        of(saved(weights(2))),  # another file
        lambda _, length: memoryview(bytes(length)),
        lambda *_: None,
    ],
)
def test_memory_that_is_not_the_base_is_not_relied_on(
    store: Store, first: bytes, held: Callable[[int, int], memoryview | None]
) -> None:
    done = put_sources(store, [Bytes("two/w", second())], "two", base="one", held={"one/w": held})
    assert done.bytes_on_bases > 0.9 * len(first)
    assert done.totals.bytes_received > 0.5 * len(first)
    assert store.open("two/w").read_at(0, len(first)) == second()
