"""Readers fill memory that the caller gives, wherever it lies, and nothing beside it."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from shardflow.store.store import Store
from store.opening import CONTENT, SEQUENCE, counted
from store.samples import in_memory


@given(st.integers(0, 9), st.integers(0, 40), st.integers(0, 3000))
@settings(max_examples=60, deadline=None)
def test_memory_that_lies_anywhere_gets_what_is_there_and_nothing_beside_it(
    shift: int, offset: int, length: int
) -> None:
    reader, _ = counted(SEQUENCE)
    memory = bytearray(b"?" * 4000)
    with memoryview(memory)[shift : shift + length] as target:
        assert reader.readinto_at(offset, target) == length
    assert memory[shift : shift + length] == CONTENT[offset : offset + length]
    assert not (memory[:shift] + memory[shift + length :]).strip(b"?")


@pytest.mark.parametrize("shift", range(9))
def test_numbers_in_planes_are_decoded_where_they_belong_however_that_memory_lies(shift: int) -> None:
    numbers = (np.random.default_rng(1).normal(size=300_000) * 0.02).astype(np.float32)
    store = Store.init(in_memory().url)
    store.put(io.BytesIO(save({"a": numbers})), "m")
    assert "planes" in store.stat("m").codecs
    memory = bytearray(numbers.nbytes + shift)
    with store.open("m") as file, memoryview(memory)[shift:] as target:
        file.readinto_at(file.size - numbers.nbytes, target)
        assert bytes(target) == numbers.tobytes()


@pytest.mark.parametrize("shape", [(0,), (0, 4), (4, 0), (2, 0, 3)])
def test_memory_for_nothing_is_filled_whatever_its_shape(shape: tuple[int, ...]) -> None:
    reader, _ = counted(SEQUENCE)
    assert reader.readinto_at(0, np.empty(shape, np.float32)) == 0
    assert reader.readinto(np.empty(shape, np.float32)) == 0
