"""Whatever changes between a base and a chunk, the chunk comes back bit for bit."""

from __future__ import annotations

import mmap
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codec.cases import EVERY_DTYPE, KERNELS, joined, noise, odd_floats, using, weights
from codec.pairs import FLOATS, TRAINED, assert_delta, neighbours, restored_from, trained
from shardflow.codec import MAX_BYTES, CodecId, decode, encode_against, unchanged
from shardflow.dtype import DType

every_dtype = pytest.mark.parametrize("dtype", EVERY_DTYPE, ids=lambda dtype: dtype.name)
every_kernel_set = pytest.mark.parametrize("kernels", KERNELS)


@every_kernel_set
@every_dtype
@settings(max_examples=25)
@given(data=st.data())
def test_any_bytes_come_back_from_any_base(dtype: DType, kernels: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 600))
    base, new = data.draw(st.binary(min_size=size, max_size=size)), data.draw(st.binary(min_size=size, max_size=size))
    with using(kernels):
        assert_delta(base, new, dtype)


@every_kernel_set
@every_dtype
@settings(max_examples=20)
@given(
    count=st.integers(0, 3000),
    cut=st.integers(0, 15),
    seed=st.integers(0, 2**32 - 1),
    patches=st.lists(st.tuples(st.integers(0, 2**20), st.binary(min_size=1, max_size=40)), max_size=4),
)
def test_trained_weights_with_foreign_bytes_and_odd_lengths_come_back(
    dtype: DType, kernels: str, count: int, cut: int, seed: int, patches: list[tuple[int, bytes]]
) -> None:
    base, new = (bytearray(each) for each in neighbours(dtype, count, seed))
    base, new = base[: max(0, len(base) - cut)], new[: max(0, len(new) - cut)]
    for at, patch in patches:
        for side in (base, new)[: 1 + at % 2]:
            start = at % (len(side) + 1)
            side[start : start + len(patch)] = patch[: len(side) - start]
    with using(kernels):
        assert_delta(bytes(base), bytes(new), dtype)


@every_kernel_set
@pytest.mark.parametrize("dtype", FLOATS, ids=lambda dtype: dtype.name)
def test_every_odd_value_is_reached_from_every_other(dtype: DType, kernels: str) -> None:
    patterns = np.array(odd_floats(dtype), dtype=f"<u{dtype.width}")
    base, new = np.repeat(patterns, patterns.size), np.tile(patterns, patterns.size)
    with using(kernels):
        assert_delta(base.tobytes(), new.tobytes(), dtype)
        assert_delta(base.tobytes() * 9, new.tobytes() * 9, dtype)


@every_kernel_set
@every_dtype
def test_the_smallest_chunks_come_back(dtype: DType, kernels: str) -> None:
    with using(kernels):
        for size in range(0, 140, 3):
            base = noise(size)
            assert_delta(base, base, dtype)
            assert_delta(base, base[1:] + b"x" if size else b"", dtype)


@every_kernel_set
@pytest.mark.parametrize("dtype", [*TRAINED, DType.I32, DType.BYTES, DType.F8_E4M3], ids=lambda dtype: dtype.name)
def test_a_whole_chunk_with_a_tail_comes_back(dtype: DType, kernels: str) -> None:
    base, new = neighbours(dtype, (1 << 20) // dtype.width)
    with using(kernels):
        chosen = assert_delta(base + b"old", new + b"new", dtype)
    assert chosen.encoded.codec in {CodecId.DELTA, CodecId.SPARSE}


@every_kernel_set
@pytest.mark.parametrize("offset", range(1, 8))
def test_words_that_start_at_odd_addresses_come_back(offset: int, kernels: str) -> None:
    base, new = trained(DType.F64, 3000)
    rooms = [bytearray(offset) + base, bytearray(offset) + new, bytearray(offset + len(new))]
    views = [memoryview(room)[offset:] for room in rooms]
    with using(kernels):
        chosen = encode_against(views[1], DType.F64, [unchanged(views[0], DType.F64)])
        assert chosen.prediction
        decode(chosen.encoded.codec, joined(chosen.encoded), views[2], [views[0]])
    assert rooms[2][offset:] == new


def test_any_buffer_serves_as_a_base(tmp_path: Path) -> None:
    base, new = trained(DType.F16, 5000)
    (tmp_path / "base").write_bytes(base)
    with (tmp_path / "base").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        stored = set()
        for each in (base, bytearray(base), memoryview(base), mapped, np.frombuffer(base, "<f2").reshape(50, 100)):
            chosen = encode_against(new, DType.F16, [unchanged(each, DType.F16)])
            stored.add(joined(chosen.encoded))
            out = bytearray(len(new))
            decode(chosen.encoded.codec, joined(chosen.encoded), memoryview(out), [each])
            assert out == new
            del chosen, each
    assert len(stored) == 1


def test_encodings_stay_as_they_are_while_others_are_made() -> None:
    pairs = [trained(DType.BF16, 90_000 + seed, seed=seed) for seed in range(6)]
    held = [assert_delta(base, new, DType.BF16).encoded for base, new in pairs]
    copies = [joined(encoded) for encoded in held]
    for base, new in pairs * 3:
        encode_against(new[::-1], DType.F32, [unchanged(base[::-1], DType.F32)])
    assert [joined(encoded) for encoded in held] == copies


def test_a_small_delta_does_not_hold_the_memory_of_a_chunk() -> None:
    base, new = trained(DType.BF16, 1 << 21, 1e-6)
    (part,) = encode_against(new, DType.BF16, [unchanged(base, DType.BF16)]).encoded.parts
    holder = np.frombuffer(part, "u1").base
    while isinstance(getattr(holder, "base", None), np.ndarray):
        holder = holder.base
    assert memoryview(holder.obj if isinstance(holder, memoryview) else holder).nbytes <= 2 * memoryview(part).nbytes


def test_many_threads_encode_and_decode_at_once() -> None:
    failures: list[int] = []

    def work(seed: int) -> None:
        dtype = EVERY_DTYPE[seed % len(EVERY_DTYPE)]
        for turn in range(5):
            base, new = neighbours(dtype, 30_000, seed * 100 + turn)
            chosen = encode_against(new, dtype, [unchanged(base, dtype)])
            if restored_from(chosen.encoded, len(new), [base] if chosen.prediction else []) != new:
                failures.append(seed)

    with using("numba"):
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


def test_more_than_a_chunk_can_be_is_refused_before_any_work() -> None:
    with pytest.raises(ValueError, match="at most"):
        unchanged(bytes(MAX_BYTES + 1), DType.BYTES)


def test_a_base_in_pieces_is_refused() -> None:
    with pytest.raises(ValueError, match="in one piece"):
        unchanged(memoryview(weights(DType.F32, 100))[::2], DType.F32)
