"""Chunks are read in few ranges, each once; what is no encoding of them is named and never returned."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardflow import codec
from shardflow.dtype import DType
from shardflow.store import fetch
from shardflow.store.errors import ChunkDamaged, FormatUnknown
from shardflow.store.fetch import GAP_BYTES, READ_BYTES, SORTED_BYTES, Range, ranges, verified
from shardflow.store.manifest import ChunkTable
from shardflow.store.pack import HEAD_BYTES, MAX_CHUNK_BYTES
from store.samples import flipped, in_memory, named, noise, stored


def table_at(places: list[tuple[int, int, int]]) -> ChunkTable:
    """A row for each (pack, offset, stored length)."""
    rows = len(places)
    pack, offset, length = (np.asarray(values, np.uint32) for values in zip(*places, strict=True))
    zeros = np.zeros(rows, np.uint8)
    return ChunkTable(
        tuple(named(b"%d" % number) for number in range(8)),
        np.zeros((rows, 32), np.uint8),
        pack,
        offset,
        length,
        length,
        zeros,
        zeros,
        np.zeros(0, np.uint32),
    )


places = st.lists(
    st.tuples(st.integers(0, 3), st.integers(HEAD_BYTES, 40 << 20), st.integers(0, MAX_CHUNK_BYTES)),
    min_size=1,
    max_size=40,
)


@given(places, st.randoms(use_true_random=False))
def test_ranges_cover_each_row_once_and_keep_their_limits(
    wanted: list[tuple[int, int, int]], random: st.DataObject
) -> None:
    table = table_at(wanted)
    rows = list(range(len(wanted)))
    random.shuffle(rows)  # type: ignore[attr-defined]

    parts = list(ranges(table, rows))

    assert Counter(row for part in parts for row in part.rows) == Counter(rows)
    for part in parts:
        assert part.length == part.end - part.start <= READ_BYTES
        for row in part.rows:
            pack, offset, length = wanted[row]
            assert table.packs[pack] == part.pack
            assert part.start <= offset <= offset + length <= part.end
        assert {part.start} <= {wanted[row][1] for row in part.rows}
        assert {part.end} <= {sum(wanted[row][1:]) for row in part.rows}


@given(places)
def test_a_range_holds_no_gap_worth_skipping(wanted: list[tuple[int, int, int]]) -> None:
    table = table_at(wanted)
    for part in ranges(table, range(len(wanted))):
        end = part.start
        for row in part.rows:
            assert wanted[row][1] - end <= GAP_BYTES
            end = max(end, sum(wanted[row][1:]))


def test_neighbours_are_read_together_whatever_their_order() -> None:
    table = table_at([(0, 1000, 500), (0, 24, 976), (0, 1500, 100)])
    assert list(ranges(table, [0, 1, 2])) == [Range(table.packs[0], 24, 1600, (1, 0, 2))]


def test_what_is_far_apart_or_in_another_pack_is_read_apart() -> None:
    far = 24 + 100 + GAP_BYTES
    table = table_at([(0, 24, 100), (0, far, 50), (0, far + 50 + GAP_BYTES + 1, 50), (1, far, 50)])
    assert [part.rows for part in ranges(table, range(4))] == [(0, 1), (2,), (3,)]


def test_a_long_run_of_chunks_is_cut_at_the_limit() -> None:
    table = table_at([(0, HEAD_BYTES + (row << 20), 1 << 20) for row in range(20)])
    assert [part.length >> 20 for part in ranges(table, range(20))] == [8, 8, 4]


def test_rows_stay_roughly_in_order_so_that_readers_can_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "SORTED_BYTES", 300)
    table = table_at([(row % 2, HEAD_BYTES + 100 * row, 100) for row in range(6)])
    assert [part.rows for part in ranges(table, range(6))] == [(0, 2), (4,), (1, 3), (5,)]


def test_no_rows_need_no_ranges() -> None:
    assert list(ranges(table_at([(0, 24, 1)]), [])) == []


def test_what_a_batch_leaves_over_is_read_with_what_follows_it() -> None:
    size = 1_000_000
    table = table_at([(0, HEAD_BYTES + row * size, size) for row in range(4 * SORTED_BYTES // size)])
    lengths = [part.length for part in ranges(table, range(len(table)))]
    assert set(lengths[:-1]) == {READ_BYTES // size * size}


def test_a_flipped_bit_of_a_compressed_chunk_never_gives_other_bytes() -> None:
    """A few bits of a compressed stream carry nothing: then the chunk is still the chunk."""
    text = b"a text that repeats itself, " * 10
    manifest = stored(in_memory(), [text])
    stored_bytes = codec.encode(text, DType.BYTES)
    whole, noticed = b"".join(bytes(part) for part in stored_bytes.parts), 0
    for bit in range(8 * len(whole)):
        try:
            assert bytes(verified(manifest.table, 0, flipped(whole, bit), "m")) == text
        except ChunkDamaged:
            noticed += 1
    assert noticed > 0.9 * 8 * len(whole)


def test_a_codec_of_the_future_is_told_from_damage() -> None:
    place = in_memory()
    manifest = stored(place, [noise(100)])
    later = ChunkTable(**{name: getattr(manifest.table, name) for name in ChunkTable.__slots__} | {"codec": [200]})
    with pytest.raises(FormatUnknown, match="models/m is stored with codec 200, unknown to this version; upgrade"):
        verified(later, 0, noise(100), "models/m")


def test_a_stored_length_that_is_wrong_is_damage() -> None:
    manifest = stored(in_memory(), [noise(100)])
    for data in (noise(100)[:99], noise(100) + b"x", b""):
        with pytest.raises(ChunkDamaged, match=r"of models/m in pack .* is damaged"):
            verified(manifest.table, 0, data, "models/m")
