"""Notes of files that lack something: one for each, whatever its path; told by their names alone."""

from __future__ import annotations

import pytest

from shardflow.store.lacking import note_lacking, note_of, notes
from shardflow.store.paths import MAX_PATH_BYTES, key_of
from shardflow.transport import Transport
from store.samples import in_memory

LONG = key_of("/".join(["x" * 200] * 4))
KEYS = [key_of("a"), key_of("a/b"), key_of("odd name\n"), LONG]


@pytest.fixture
def place() -> Transport:
    return in_memory()


def test_there_are_none_at_first(place: Transport) -> None:
    assert notes(place) == set()


def test_every_path_that_a_store_may_hold_can_be_noted(place: Transport) -> None:
    assert len(LONG) > MAX_PATH_BYTES - 100
    note_lacking(place, KEYS, all_known=False)
    assert notes(place) == {note_of(key) for key in KEYS}
    assert {bytes(place.read(note)).decode() for note in notes(place)} == set(KEYS)


def test_a_note_is_added_to_others_and_written_once(place: Transport) -> None:
    note_lacking(place, KEYS[:2], all_known=False)
    before = place.head(note_of(KEYS[1]))
    note_lacking(place, KEYS[1:3], all_known=False)
    assert notes(place) == {note_of(key) for key in KEYS[:3]}
    assert place.head(note_of(KEYS[1])) == before


def test_who_knows_all_that_lack_something_takes_the_other_notes_away(place: Transport) -> None:
    note_lacking(place, KEYS, all_known=False)
    note_lacking(place, KEYS[:1], all_known=True)
    assert notes(place) == {note_of(KEYS[0])}
