"""Content-defined cuts: the same however the bytes arrive, within their limits, and local to what changed."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import Buffer

from shardflow.store import gear
from shardflow.store.gear import MAXIMUM, MEAN, MINIMUM, Gear

SMALL = (128, 512, 2048)


def random_bytes(size: int, seed: int = 1) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def chunks_of(cutter: Gear, data: bytes) -> list[bytes]:
    ends = cutter.cuts(data, True)
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def fed_in_pieces(cutter: Gear, data: bytes, sizes: list[int]) -> list[int]:
    """The cuts of a caller who gets the data piece by piece and carries the rest over."""
    ends: list[int] = []
    base, held, at = 0, b"", 0
    for size in [*sizes, len(data)]:
        held, at = held + data[at : at + size], at + size
        final = at >= len(data)
        cuts = cutter.cuts(held, final)
        ends += [base + cut for cut in cuts]
        if cuts:
            base, held = base + cuts[-1], held[cuts[-1] :]
        if final:
            break
    return ends


@st.composite
def contents(draw: st.DrawFn) -> bytes:
    """Runs of random, constant and repeating bytes, some too short for one chunk."""
    parts = []
    for seed in draw(st.lists(st.integers(0, 2**32 - 1), max_size=6)):
        kind = draw(st.sampled_from(("random", "constant", "repeating")))
        size = draw(st.integers(0, 9000))
        if kind == "random":
            parts.append(random_bytes(size, seed))
        elif kind == "constant":
            parts.append(bytes([seed % 256]) * size)
        else:
            parts.append((random_bytes(1 + seed % 300, seed) * (size + 1))[:size])
    return b"".join(parts)


@pytest.fixture(params=["numba", "numpy"])
def cutter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gear:
    monkeypatch.setenv("SHARDFLOW_KERNELS", request.param)
    return Gear(*SMALL)


class On(Gear):
    """Cuts with one of the two kernels."""

    def __init__(self, kernels: str) -> None:
        super().__init__(*SMALL)
        self._kernels = kernels

    def cuts(self, data: Buffer, final: bool) -> list[int]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SHARDFLOW_KERNELS", self._kernels)
            return super().cuts(data, final)


@pytest.fixture(scope="module")
def twins() -> tuple[Gear, Gear]:
    return On("numba"), On("numpy")


@settings(max_examples=150, deadline=None)
@given(data=contents(), sizes=st.lists(st.integers(0, 4000), max_size=12))
def test_cuts_do_not_depend_on_how_the_data_arrives(twins: tuple[Gear, Gear], data: bytes, sizes: list[int]) -> None:
    for cutter in twins:
        assert fed_in_pieces(cutter, data, sizes) == cutter.cuts(data, True)


@settings(max_examples=150, deadline=None)
@given(data=contents())
def test_chunks_cover_the_data_within_the_limits(twins: tuple[Gear, Gear], data: bytes) -> None:
    minimum, _, maximum = SMALL
    chunks = chunks_of(twins[0], data)
    assert b"".join(chunks) == data
    assert all(minimum <= len(chunk) <= maximum for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= maximum for chunk in chunks)


@settings(max_examples=150, deadline=None)
@given(data=contents(), final=st.booleans())
def test_the_compiled_kernel_and_its_numpy_twin_agree(twins: tuple[Gear, Gear], data: bytes, final: bool) -> None:
    compiled, plain = twins
    assert compiled.cuts(data, final) == plain.cuts(data, final)


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 200_000), inserted=st.integers(0, 3000), deleted=st.integers(0, 3000))
def test_an_insertion_or_deletion_changes_only_chunks_nearby(
    twins: tuple[Gear, Gear], at: int, inserted: int, deleted: int
) -> None:
    old = random_bytes(200_000)
    new = old[:at] + random_bytes(inserted, 2) + old[at + deleted :]
    known = set(chunks_of(twins[0], old))
    fresh = sum(len(chunk) for chunk in chunks_of(twins[0], new) if chunk not in known)
    assert fresh <= inserted + 12 * SMALL[2]


def test_a_slow_reading_of_the_rule_gives_the_same_cuts(cutter: Gear) -> None:
    data = random_bytes(30_000, 3)
    minimum, mean, maximum = SMALL
    spread = mean - minimum
    words = [int(word) for word in gear.table()]
    expected, start = [], 0
    for end in range(1, len(data) + 1):
        size = end - start
        held = sum(words[data[end - 1 - k]] << k for k in range(min(64, end))) % 2**64
        bound = 2**64 * 25 // ((72 if size < minimum + 2 * spread // 5 else 18) * spread)
        if (size >= minimum and held < bound) or size == maximum or end == len(data):
            expected.append(end)
            start = end
    assert cutter.cuts(data, True) == expected


def test_the_rule_is_frozen_because_stored_chunks_follow_it() -> None:
    table = hashlib.sha256(gear.table().astype("<u8").tobytes()).hexdigest()
    assert table == "14adba2b3e35c884ccb1182d962efa7bd830352a8ffa0ad98729ce712722ccff"
    data = b"".join(hashlib.sha256(i.to_bytes(4, "little")).digest() for i in range(32768))
    assert Gear(32768, 131072, 524288).cuts(data, True) == [470159, 597560, 681287, 739382, 830116, 954164, 1048576]


def test_the_default_sizes_give_their_mean_and_keep_changes_local() -> None:
    data = random_bytes(48 << 20)
    cutter = Gear()
    assert (cutter.minimum, cutter.mean, cutter.maximum) == (MINIMUM, MEAN, MAXIMUM)
    chunks = chunks_of(cutter, data)
    assert 0.9 * MEAN < len(data) / len(chunks) < 1.1 * MEAN
    half = len(data) // 2
    known = set(chunks)
    changed = data[:half] + random_bytes(64 << 10, 9) + data[half:]
    assert sum(len(chunk) for chunk in chunks_of(cutter, changed) if chunk not in known) < 2 << 20


def test_constant_data_is_cut_at_one_size(cutter: Gear) -> None:
    assert len({len(chunk) for chunk in chunks_of(cutter, bytes(20 * 2048))}) == 1


def test_nothing_has_no_chunks(cutter: Gear) -> None:
    assert cutter.cuts(b"", True) == []
    assert cutter.cuts(b"", False) == []


def test_any_buffer_is_taken_and_left_as_it_was(cutter: Gear) -> None:
    data = random_bytes(9000)
    expected = cutter.cuts(data, True)
    array = np.frombuffer(bytearray(data), np.uint8)
    for buffer in (bytearray(data), memoryview(data), array, memoryview(b"x" + data)[1:]):
        assert cutter.cuts(buffer, True) == expected
    assert array.flags.writeable


@pytest.mark.parametrize("sizes", [(63, 512, 2048), (128, 150, 2048), (128, 512, 512), (512, 128, 2048)])
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="chunk sizes"):
        Gear(*sizes)
