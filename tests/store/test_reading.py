"""A source is read once, in order: its blocks hold every byte, and their spans are the chunks that were planned."""

from __future__ import annotations

import errno
import io
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.dtype import DType
from shardflow.store import reading
from shardflow.store.cutting import Run
from shardflow.store.errors import SourceUnusable
from shardflow.store.gear import Gear
from shardflow.store.reading import Block, Buffers, Span, Windows, blocks, read_all, stream_blocks
from store.samples import noise

BLOCK = 4096
GEAR = Gear(64, 128, 512)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", BLOCK)


class Hesitant(io.RawIOBase):
    """Gives at most so many bytes at a time, as pipes and networks do."""

    def __init__(self, data: bytes, at_a_time: int) -> None:
        self._data = io.BytesIO(data)
        self._at_a_time = at_a_time

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        return self._data.readinto(target[: self._at_a_time])


def taken(found: list[Block]) -> tuple[bytes, list[tuple[int, DType]]]:
    """All bytes, and the length and dtype of each chunk."""
    for block in found:
        assert [span.start for span in block.spans] == [0, *(span.end for span in block.spans[:-1])]
        assert block.spans[-1].end == len(block.data)
    chunks = [(span.end - span.start, span.dtype) for block in found for span in block.spans]
    return b"".join(bytes(block.data) for block in found), chunks


runs = st.lists(
    st.one_of(
        st.builds(Run, st.integers(1, BLOCK), st.sampled_from([DType.F32, DType.BYTES]), by_content=st.just(False)),
        st.builds(Run, st.integers(1, 3 * BLOCK), st.just(DType.BYTES), by_content=st.just(True)),
    ),
    max_size=12,
)


@given(runs, st.integers(1, 5000))
@settings(max_examples=60)
def test_blocks_hold_every_byte_and_the_chunks_that_were_planned(planned: list[Run], at_a_time: int) -> None:
    data = noise(sum(run.length for run in planned))

    found, chunks = taken(list(blocks(Hesitant(data, at_a_time), planned, GEAR, Buffers(GEAR.maximum))))

    assert found == data
    expected, start = [], 0
    for run in planned:
        if run.by_content:
            ends = GEAR.cuts(data[start : start + run.length], final=True)
            expected += [(end - begin, DType.BYTES) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
        else:
            expected.append((run.length, run.dtype))
        start += run.length
    assert chunks == expected


@given(st.integers(0, 4 * BLOCK), st.integers(1, 5000))
@settings(max_examples=60)
def test_a_stream_is_cut_as_a_file_of_the_same_content_is(size: int, at_a_time: int) -> None:
    data = noise(size)
    found, chunks = taken(list(stream_blocks(Hesitant(data, at_a_time), GEAR, Buffers(GEAR.maximum))))
    assert found == data
    if size:
        run = Run(size, DType.BYTES, by_content=True)
        assert (found, chunks) == taken(list(blocks(Hesitant(data, BLOCK), [run], GEAR, Buffers(GEAR.maximum))))


def test_fixed_runs_share_a_block_as_long_as_they_fit() -> None:
    planned = [Run(1000, DType.F32, by_content=False)] * 9
    found = list(blocks(Hesitant(noise(9000), 9000), planned, GEAR, Buffers(GEAR.maximum)))
    assert [len(block.spans) for block in found] == [4, 4, 1]


@pytest.mark.parametrize("missing", [1, 500, 5000])
def test_a_source_that_ends_early_gives_no_half_chunk(missing: int) -> None:
    planned = [Run(1000, DType.F32, by_content=False)] * 9
    data = noise(9000 - missing)
    found, chunks = taken(list(blocks(Hesitant(data, 9000), planned, GEAR, Buffers(GEAR.maximum))))
    assert data.startswith(found)
    assert len(found) < 9000
    assert {length for length, _ in chunks} <= {1000}


def test_a_source_that_ends_early_where_content_decides_shows_by_its_length() -> None:
    found, _ = taken(
        list(
            blocks(Hesitant(noise(7000), 9000), [Run(9000, DType.BYTES, by_content=True)], GEAR, Buffers(GEAR.maximum))
        )
    )
    assert found == noise(7000)


def test_what_grows_behind_the_planned_end_is_not_read() -> None:
    source = Hesitant(noise(9000), 9000)
    found, _ = taken(list(blocks(source, [Run(5000, DType.BYTES, by_content=True)], GEAR, Buffers(GEAR.maximum))))
    assert found == noise(9000)[:5000]


def test_what_comes_next_may_be_read_before_it_is_known_what_a_window_leaves_over() -> None:
    source, buffers = Hesitant(noise(20_000), 5000), Buffers(GEAR.maximum)
    windows, found = Windows(source, 20_000, buffers), b""
    for window in windows:
        windows.read_on()
        windows.read_on()
        ends = GEAR.cuts(window.data, final=window.final)
        spans = tuple(Span(start, end, DType.BYTES) for start, end in pairwise([0, *ends]))
        found += windows.taken(window, spans).data
    assert found == noise(20_000)


def test_buffers_are_used_again() -> None:
    buffers = Buffers(GEAR.maximum)
    first = buffers.take()
    assert buffers.take() is not first
    buffers.give(first)
    assert buffers.take() is first


def test_a_buffer_that_was_given_back_does_not_show_through() -> None:
    buffers, whole = Buffers(GEAR.maximum), b""
    for block in stream_blocks(Hesitant(noise(20_000), 700), GEAR, buffers):
        whole += bytes(block.data)
        block.buffer[:] = bytes(len(block.buffer))
        buffers.give(block.buffer)
    assert whole == noise(20_000)


def test_a_source_that_cannot_be_read_is_told() -> None:
    class Broken(io.RawIOBase):
        def readinto(self, _: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(SourceUnusable, match="reading failed: Input/output error"):
        read_all(Broken(), 10)
