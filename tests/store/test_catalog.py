"""The catalog finds chunks by name, and makes of its rows tables in which every base comes before what needs it."""

from __future__ import annotations

from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardflow.store import catalog as catalog_module
from shardflow.store.catalog import Catalog
from shardflow.store.manifest import ChunkTable, Manifest, decode_manifest, encode_manifest
from shardflow.store.pack import HEAD_BYTES, PackEntry
from store.samples import named


def chunk(number: int) -> bytes:
    return named(b"chunk %d" % number)


def filled(bases: list[tuple[int, ...]], packs: int = 2) -> Catalog:
    """A row for each tuple of bases, in so many packs by turns."""
    catalog = Catalog()
    numbers = [catalog.number_of(named(b"pack %d" % pack)) for pack in range(packs)]
    for row, needed in enumerate(bases):
        catalog.add(chunk(row), numbers[row % packs], HEAD_BYTES + 10 * row, 10, 20 + row, row % 7, needed)
    return catalog


def manifest_of(catalog: Catalog, rows: list[int]) -> Manifest:
    table, sequence = catalog.table(array("I", rows))
    return Manifest(int(table.size[sequence].sum()), bytes(32), table=table, sequence=sequence)


@st.composite
def bases_of_rows(draw: st.DrawFn) -> list[tuple[int, ...]]:
    return [
        tuple(draw(st.lists(st.integers(0, row - 1), max_size=3, unique=True))) if row else ()
        for row in range(draw(st.integers(1, 15)))
    ]


@given(bases_of_rows(), st.data())
def test_a_table_of_any_rows_is_a_valid_manifest_that_names_them_in_order(
    bases: list[tuple[int, ...]], data: st.DataObject
) -> None:
    catalog = filled(bases)
    rows = data.draw(st.lists(st.integers(0, len(bases) - 1), max_size=20))

    manifest = manifest_of(catalog, rows)

    decode_manifest(encode_manifest(manifest), "x")
    table = manifest.table
    assert [table.id(int(place)) for place in manifest.sequence] == [chunk(row) for row in rows]
    by_name = {chunk(row): row for row in range(len(bases))}
    for place in range(len(table)):
        row = by_name[table.id(place)]
        assert [table.id(base) for base in table.bases(place)] == [chunk(base) for base in bases[row]]
        assert table.packs[table.pack[place]] == named(b"pack %d" % (row % 2))
        assert (table.offset[place], table.stored[place]) == (HEAD_BYTES + 10 * row, 10)
        assert (table.size[place], table.codec[place]) == (20 + row, row % 7)


@given(bases_of_rows(), st.data())
def test_rows_and_their_bases_come_once_each_bases_first(bases: list[tuple[int, ...]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(bases) - 1), max_size=20))
    ordered = filled(bases).with_bases(rows)
    assert len(ordered) == len(set(ordered))
    assert set(rows) <= set(ordered)
    for place, row in enumerate(ordered):
        assert set(bases[row]) <= set(ordered[:place])
    assert set(ordered) == set(rows) | {base for row in ordered for base in bases[row]}


@given(bases_of_rows(), st.data())
def test_what_is_learned_from_a_manifest_makes_the_same_manifest_again(
    bases: list[tuple[int, ...]], data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(bases) - 1), min_size=1, max_size=20))
    manifest = manifest_of(filled(bases), rows)

    learned = Catalog()
    learned.open_pack()  # numbers of packs need not be the same
    learned.add_manifest(manifest)
    found = [learned.find(manifest.table.id(int(place))) for place in manifest.sequence]
    again = manifest_of(learned, [row for row in found if row is not None])

    assert described(again.table) == described(manifest.table)
    assert [again.table.id(int(place)) for place in again.sequence] == [chunk(row) for row in rows]


def described(table: ChunkTable) -> dict[bytes, Any]:
    """A table as what it says of each chunk, whatever the order of its rows."""
    return {
        table.id(row): (
            table.packs[table.pack[row]],
            int(table.offset[row]),
            int(table.stored[row]),
            int(table.size[row]),
            int(table.codec[row]),
            [table.id(base) for base in table.bases(row)],
        )
        for row in range(len(table))
    }


def test_a_long_chain_of_bases_needs_no_recursion() -> None:
    length = 5_000
    catalog = filled([(row - 1,) if row else () for row in range(length)])
    assert catalog.with_bases([length - 1]) == list(range(length))


def test_an_unknown_chunk_is_not_found() -> None:
    assert filled([(), ()]).find(bytes(32)) is None
    assert Catalog().find(bytes(32)) is None


def test_the_newest_row_of_a_name_is_the_one_found() -> None:
    catalog = filled([()])
    newer = catalog.add(chunk(0), 1, 500, 10, 20, 0)
    assert catalog.find(chunk(0)) == newer == 1
    assert len(catalog) == 2


def test_an_own_pack_is_numbered_before_it_has_a_name() -> None:
    catalog = Catalog()
    number = catalog.open_pack()
    row = catalog.add(chunk(0), number, HEAD_BYTES, 10, 20, 0)
    catalog.name_pack(number, named(b"pack"))
    assert manifest_of(catalog, [row]).table.packs == (named(b"pack"),)
    assert catalog.number_of(named(b"pack")) == number


def test_a_pack_gets_one_number_however_often_it_is_met() -> None:
    catalog = Catalog()
    first, other = catalog.number_of(named(b"a")), catalog.number_of(named(b"b"))
    assert catalog.number_of(named(b"a")) == first != other


def test_a_table_names_only_the_packs_it_needs() -> None:
    catalog = filled([()] * 6, packs=3)
    assert manifest_of(catalog, [1, 4]).table.packs == (named(b"pack 1"),)


def test_no_rows_make_an_empty_table() -> None:
    for catalog in (Catalog(), filled([(), (0,)])):
        manifest = manifest_of(catalog, [])
        assert len(manifest.table) == len(manifest.sequence) == 0
        decode_manifest(encode_manifest(manifest), "x")


def test_a_pack_on_its_own_offers_what_rests_on_known_chunks() -> None:
    """A chunk coded against another is of no use without knowing where that one is."""
    catalog = filled([()])
    entries = [
        PackEntry(chunk(0), 900, 1, 1, 0),
        PackEntry(chunk(1), 100, 11, 22, 1),
        PackEntry(chunk(2), 111, 9, 33, 16, (chunk(1),)),
        PackEntry(chunk(3), 120, 9, 33, 16, (chunk(2), chunk(9))),
    ]
    catalog.add_pack(named(b"noted"), entries)
    found = catalog.find(chunk(1))
    assert found is not None
    assert catalog.entry(found) == entries[1]
    assert catalog.packs[catalog.pack_of(found)] == named(b"noted")
    needs_it = catalog.find(chunk(2))
    assert needs_it is not None
    assert catalog.entry(needs_it) == entries[2]
    assert catalog.find(chunk(3)) is None
    assert catalog.location(0) == (0, HEAD_BYTES, 10), "a chunk that was known keeps its place"


def test_what_waits_for_its_bases_is_offered_once_a_manifest_tells_where_they_are() -> None:
    catalog = filled([()])
    catalog.add_pack(named(b"noted"), [PackEntry(chunk(2), 111, 9, 33, 16, (chunk(1),))])
    assert catalog.find(chunk(2)) is None
    catalog.add_manifest(manifest_of(filled([(), ()]), [1]))
    waited = catalog.find(chunk(2))
    assert waited is not None
    assert catalog.entry(waited).bases == (chunk(1),)


def test_depth_is_how_many_chunks_come_before() -> None:
    catalog = filled([(), (0,), (1, 0), ()])
    assert [catalog.depth(row) for row in range(4)] == [0, 1, 2, 0]


@given(bases_of_rows(), st.integers(0, 400))
def test_it_knows_which_chunks_rest_on_more_than_may_be_decoded_for_one(
    bases: list[tuple[int, ...]], limit: int
) -> None:
    catalog = filled(bases)
    for row in range(len(bases)):
        below = set(catalog.with_bases([row])) - {row}
        assert catalog.rests_on_more(row, limit) == (sum(20 + needed for needed in below) > limit)


def test_a_foreign_table_whose_rows_name_each_base_twice_weighs_what_it_does() -> None:
    catalog = filled([(), *((row, row) for row in range(200))])
    whole = sum(20 + row for row in range(200))
    assert catalog.rests_on_more(200, whole - 1)
    assert not catalog.rests_on_more(200, whole)


@pytest.mark.parametrize("shorter", [[()], [(), (0,)]], ids=["by itself", "on fewer"])
def test_of_two_ways_to_a_chunk_the_shorter_one_is_found(shorter: list[tuple[int, ...]]) -> None:
    """Else what is coded against it in one file would come to rest on a longer chain of another."""
    long, last = filled([(), (0,), (1,)]), len(shorter) - 1
    there, pack = Catalog(), named(b"short")
    for row, bases in enumerate(shorter):
        name = chunk(2) if row == last else chunk(9)
        there.add(name, there.number_of(pack), HEAD_BYTES + row, 10, 22, 2, bases)
    [*_, found] = long.add_manifest(manifest_of(there, [last]))
    assert found == long.find(chunk(2))
    assert (long.packs[long.pack_of(found)], long.depth(found)) == (pack, last)
    assert long.add_manifest(manifest_of(filled([(), (0,), (1,)]), [2]))[-1] == found, "the longer one does not return"


def test_a_manifest_that_is_taken_up_tells_the_rows_of_its_table() -> None:
    manifest = manifest_of(filled([(), (), (0, 1)]), [2])
    catalog = filled([()] * 2)
    rows = catalog.add_manifest(manifest)
    assert [catalog.name(row) for row in rows] == [manifest.table.id(place) for place in range(len(manifest.table))]


@given(st.integers(0, 6), st.lists(st.integers(0, 9), min_size=1, max_size=20), st.booleans())
def test_a_manifest_is_taken_up_however_much_of_it_is_known_and_whatever_it_repeats(
    known: int, chunks: list[int], beyond_the_limit: bool
) -> None:
    """A table that some other program made may name a chunk twice, at two places."""
    whole = manifest_of(filled([()] * 10), list(range(10)))
    columns = {
        name: getattr(whole.table, name)[chunks] for name in ("chunk", "pack", "offset", "stored", "size", "codec")
    }
    columns["offset"] = columns["offset"] + np.arange(len(chunks), dtype=np.uint32)
    table = replace(whole.table, **columns, base_count=np.zeros(len(chunks), np.uint8))
    catalog = filled([()] * known, packs=3)
    with pytest.MonkeyPatch.context() as patched:
        if beyond_the_limit:
            patched.setattr(catalog_module, "MAX_REMEMBERED", known + len(chunks) - 1)
        rows = catalog.add_manifest(replace(whole, table=table, sequence=np.zeros(0, np.uint32)))

    assert [catalog.name(row) for row in rows] == table.ids()
    for row, number in zip(rows, chunks, strict=True):
        first = chunks.index(number)
        offset = HEAD_BYTES + 10 * number + (first if number >= known else 0)
        entry = catalog.entry(row)
        assert (entry.chunk, entry.stored, entry.size, entry.codec) == (chunk(number), 10, 20 + number, number % 7)
        if not beyond_the_limit:
            assert (entry.offset, catalog.find(chunk(number))) == (offset, row)
            if number >= known:
                assert catalog.packs[catalog.pack_of(row)] == table.packs[table.pack[first]]


def test_an_entry_names_its_bases() -> None:
    catalog = filled([(), (), (0, 1)])
    assert catalog.entry(2) == PackEntry(chunk(2), HEAD_BYTES + 20, 10, 22, 2, (chunk(0), chunk(1)))
    assert (catalog.size_of(2), catalog.pack_of(2), catalog.name(2)) == (22, 0, chunk(2))


def test_a_chunk_that_was_copied_is_named_where_it_is_now() -> None:
    catalog = filled([(), (0,)])
    catalog.move(0, catalog.number_of(named(b"new")), 4000)
    table = manifest_of(catalog, [1]).table
    assert described(table)[chunk(0)][:2] == (named(b"new"), 4000)
    assert described(table)[chunk(1)][:2] == (named(b"pack 1"), HEAD_BYTES + 10)


def test_rows_can_be_added_after_a_table_was_made() -> None:
    """Columns are lent to numpy while a table is made, and cannot grow as long as they are."""
    catalog = filled([()] * 3)
    held = manifest_of(catalog, [0, 1, 2])
    for row in range(3, 10_000):
        catalog.add(chunk(row), 0, HEAD_BYTES + row, 1, 2, 3)
    assert [held.table.id(row) for row in range(3)] == [chunk(row) for row in range(3)]
    table = manifest_of(catalog, [9_999]).table
    assert (table.id(0), table.offset[0]) == (chunk(9_999), HEAD_BYTES + 9_999)


def test_past_the_limit_chunks_have_rows_but_are_not_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "MAX_REMEMBERED", 3)
    catalog = filled([()] * 5)
    assert [catalog.find(chunk(row)) for row in range(5)] == [0, 1, 2, None, None]
    assert catalog.add(chunk(1), 0, 999, 1, 1, 0) == 5 == catalog.find(chunk(1))
    assert np.array_equal(manifest_of(catalog, [4, 3]).sequence, [0, 1])
