"""A place in a store has one run at work, in whatever order two runs come, take it over from a dead one, and end."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import msgspec
import pytest

from shardflow.flavor.moving import claims
from shardflow.flavor.moving.claims import Claim, Note, WorkUnderWay, claimed
from shardflow.store.errors import PathTaken
from shardflow.store.store import Store

PLACE = "model/under-way.json"


def claim(store: Store, *, take_over: bool = False) -> AbstractContextManager[Claim]:
    return claimed(store, PLACE, "reshard", take_over=take_over)


def noted(store: Store) -> Note:
    with store.open(PLACE) as file:
        return msgspec.json.decode(file.read(), type=Note)


def leave_note(store: Store) -> None:
    """What a run on this machine wrote before it was killed."""
    gone = Note(work="reshard", host="", process=1, token="gone", started=1.0, after=("half.safetensors",), ended=True)
    store.put(io.BytesIO(msgspec.json.encode(gone)), PLACE)


def paused(monkeypatch: pytest.MonkeyPatch, *, before: Callable[[], None], after: Callable[[], None]) -> None:
    """The next one who reads a note is slow: others act before it reads, and before it does anything about it."""
    read = claims._read

    def slow(store: Store, path: str) -> Note | None:
        monkeypatch.setattr(claims, "_read", read)
        before()
        found = read(store, path)
        after()
        return found

    monkeypatch.setattr(claims, "_read", slow)


def nothing() -> None: ...


def test_of_two_runs_that_read_the_note_of_a_killed_one_only_the_first_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_note(store)
    with ExitStack() as first:
        taken: list[Claim] = []
        paused(monkeypatch, before=nothing, after=lambda: taken.append(first.enter_context(claim(store))))
        with pytest.raises(WorkUnderWay, match=r"took .* just now"), claim(store):
            pass
        taken[0].goes(["model.safetensors"], ["model-00001-of-00002.safetensors"])  # it can still rely on its note
        assert noted(store).token == taken[0].note.token
        assert "half.safetensors" in noted(store).after  # which tells what the killed run left, too
    assert not list(store.ls())


def test_a_run_that_finds_the_place_taken_leaves_it_to_who_comes_between(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as first, ExitStack() as third:
        first.enter_context(claim(store))
        taken: list[Claim] = []

        def changing_hands() -> None:
            first.close()
            taken.append(third.enter_context(claim(store)))

        paused(monkeypatch, before=changing_hands, after=nothing)
        with pytest.raises(WorkUnderWay), claim(store):
            pass
        assert noted(store).token == taken[0].note.token


def test_a_run_that_finds_the_place_free_again_does_not_write_over_who_comes_between(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as first, ExitStack() as third:
        first.enter_context(claim(store))
        taken: list[Claim] = []
        paused(monkeypatch, before=first.close, after=lambda: taken.append(third.enter_context(claim(store))))
        with pytest.raises(WorkUnderWay), claim(store):
            pass
        assert noted(store).token == taken[0].note.token


def test_a_place_that_became_free_while_it_was_asked_for_is_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Store.put
    with ExitStack() as first:
        first.enter_context(claim(store))

        def refused(self: Store, *arguments: object, **options: object) -> object:
            monkeypatch.setattr(Store, "put", put)
            try:
                return put(self, *arguments, **options)  # type: ignore[arg-type]
            finally:
                first.close()

        monkeypatch.setattr(Store, "put", refused)
        with claim(store) as mine:
            assert noted(store).token == mine.note.token
    assert not list(store.ls())


@pytest.mark.parametrize("failure", [None, RuntimeError("no more of this")], ids=["done", "failed"])
def test_a_run_whose_place_was_taken_over_leaves_it_when_it_ends(failure: RuntimeError | None, store: Store) -> None:
    first = claim(store)
    first.__enter__()
    with claim(store, take_over=True) as theirs:
        assert not first.__exit__(type(failure) if failure else None, failure, None)
        assert noted(store).token == theirs.note.token


def test_a_run_whose_place_was_taken_over_is_told_before_it_changes_anything(store: Store) -> None:
    with ExitStack() as runs:
        mine = runs.enter_context(claim(store))
        theirs = runs.enter_context(claim(store, take_over=True))
        with pytest.raises(WorkUnderWay, match=r"took .* just now"):
            mine.goes(["model.safetensors"], ["model-00001-of-00002.safetensors"])
        assert noted(store).token == theirs.note.token


def test_what_is_in_the_way_and_is_no_note_is_told(store: Store) -> None:
    store.put(io.BytesIO(b"mine"), "model")
    with pytest.raises(PathTaken, match="model is a file"), claim(store):
        pass
    assert store.open("model").read() == b"mine"
