"""The journal remembers packs for a run that comes after a crash, and never leads it to the wrong bytes."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.store.journal import KEPT_SECONDS, Journal
from shardflow.store.pack import PackEntry
from store.samples import flipped, named

PACK, OTHER = named(b"pack"), named(b"other pack")
ENTRIES = [PackEntry(named(b"a"), 24, 10, 20, 1), PackEntry(named(b"b"), 34, 5, 5, 0, (named(b"a"),))]

entries = st.builds(
    PackEntry,
    st.binary(min_size=32, max_size=32),
    *[st.integers(0, 2**32 - 1)] * 3,
    st.integers(0, 255),
    st.lists(st.binary(min_size=32, max_size=32), max_size=2).map(tuple),
)


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal("store-id", tmp_path)


def notes_of(journal: Journal) -> list[Path]:
    return sorted(journal.directory.iterdir())


@given(st.dictionaries(st.binary(min_size=32, max_size=32), st.lists(entries, max_size=4), max_size=4))
@settings(max_examples=30)
def test_what_was_noted_is_found_by_the_next_run(
    tmp_path_factory: pytest.TempPathFactory, packs: dict[bytes, list[PackEntry]]
) -> None:
    place = tmp_path_factory.mktemp("journal")
    for pack, held in packs.items():
        Journal("id", place).note(pack, iter(held))
    assert dict(Journal("id", place).unfinished()) == packs


def test_settled_packs_are_forgotten(journal: Journal) -> None:
    journal.note(PACK, ENTRIES)
    journal.note(OTHER, ENTRIES)
    journal.settle([PACK, named(b"never noted")])
    assert dict(journal.unfinished()) == {OTHER: ENTRIES}


def test_stores_do_not_meet(tmp_path: Path) -> None:
    Journal("one", tmp_path).note(PACK, ENTRIES)
    assert not dict(Journal("two", tmp_path).unfinished())


def test_an_old_note_is_dropped(journal: Journal) -> None:
    journal.note(PACK, ENTRIES)
    journal.note(OTHER, ENTRIES)
    long_ago = time.time() - KEPT_SECONDS - 1
    os.utime(journal.directory / f"{PACK.hex()}.pack", (long_ago, long_ago))
    assert dict(journal.unfinished()) == {OTHER: ENTRIES}
    assert len(notes_of(journal)) == 1


@pytest.mark.parametrize("garbage", [b"", b"\0" * 100, b"\xff" * 33, b"not a note at all, but long enough to be one"])
def test_a_garbage_note_is_dropped(journal: Journal, garbage: bytes) -> None:
    journal.note(PACK, ENTRIES)
    (journal.directory / f"{OTHER.hex()}.pack").write_bytes(garbage)
    assert dict(journal.unfinished()) == {PACK: ENTRIES}
    assert len(notes_of(journal)) == 1


def test_every_flipped_bit_and_every_truncation_drops_a_note(journal: Journal) -> None:
    """A manifest is made from notes: one that lies would make a file that nobody can read."""
    journal.note(PACK, ENTRIES)
    [note] = notes_of(journal)
    good = note.read_bytes()
    for bit in range(0, 8 * len(good), 3):
        note.write_bytes(flipped(good, bit))
        assert not dict(journal.unfinished())
    for length in range(len(good)):
        note.write_bytes(good[:length])
        assert not dict(journal.unfinished())
    note.write_bytes(good)
    assert dict(journal.unfinished()) == {PACK: ENTRIES}


def test_a_note_under_another_packs_name_is_dropped(journal: Journal) -> None:
    journal.note(PACK, ENTRIES)
    [note] = notes_of(journal)
    note.rename(note.with_name(f"{OTHER.hex()}.pack"))
    assert not dict(journal.unfinished())


@pytest.mark.parametrize("name", ["thesis", "pack-" + "0" * 64, "zz" * 32, "ab", "AB" * 32])
def test_a_file_that_is_no_note_by_its_name_is_left_alone(journal: Journal, name: str) -> None:
    journal.note(PACK, ENTRIES)
    strange = journal.directory / f"{name}.pack"
    strange.write_bytes(notes_of(journal)[0].read_bytes())
    long_ago = time.time() - KEPT_SECONDS - 1
    os.utime(strange, (long_ago, long_ago))
    assert dict(journal.unfinished()) == {PACK: ENTRIES}
    assert strange.exists()


@pytest.mark.parametrize("store_id", ["", ".", "..", "../../work", "/data/repo/.git/objects/pack", "a/b", "a\n"])
def test_an_id_that_leads_out_of_the_journal_is_refused(tmp_path: Path, store_id: str) -> None:
    with pytest.raises(ValueError, match="no id of a store"):
        Journal(store_id, tmp_path)


def test_what_another_program_left_there_is_left_alone(journal: Journal) -> None:
    journal.note(PACK, ENTRIES)
    (journal.directory / "README").write_text("?")
    (journal.directory / f"{OTHER.hex()}.1234.tmp").write_bytes(b"half a no")
    assert dict(journal.unfinished()) == {PACK: ENTRIES}
    assert len(notes_of(journal)) == 3


def test_a_journal_that_was_never_written_is_empty(tmp_path: Path) -> None:
    assert not dict(Journal("id", tmp_path / "nowhere").unfinished())
    Journal("id", tmp_path / "nowhere").settle([PACK])


def test_a_directory_that_cannot_be_written_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("a file in the way")
    journal = Journal("id", tmp_path)
    journal.note(PACK, ENTRIES)
    assert not dict(journal.unfinished())
    journal.settle([PACK])


def test_a_directory_in_place_of_a_note_is_passed_over(journal: Journal) -> None:
    journal.note(PACK, ENTRIES)
    (journal.directory / f"{OTHER.hex()}.pack").mkdir()
    assert dict(journal.unfinished()) == {PACK: ENTRIES}


def test_it_lies_in_the_state_directory_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHARDFLOW_STATE", str(tmp_path / "state"))
    assert Journal("id").directory == tmp_path / "state/journal/id"


def _note_many(place: Path, start: int) -> None:
    journal = Journal("id", place)
    for number in range(start, start + 50):
        journal.note(named(b"%d" % number), ENTRIES)
        journal.note(PACK, ENTRIES)


def test_two_processes_may_note_at_once(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_note_many, args=(tmp_path, 0))
    other.start()
    while other.is_alive():
        _note_many(tmp_path, 50)
    assert other.exitcode == 0
    found = dict(Journal("id", tmp_path).unfinished())
    assert set(found) == {named(b"%d" % number) for number in range(100)} | {PACK}
    assert all(held == ENTRIES for held in found.values())
