"""Several processes save to one URL: a step is wholly that of one of them, and nobody removes what another needs."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flavor.checkpointing.rivals import STEPS, save_steps
from flavor.checkpointing.samples import Gate, same, state
from services.warmed import finish, start, warm
from shardflow.flavor import owners
from shardflow.flavor.checkpointing import AsyncCheckpointer, Retention, attempts, files
from shardflow.flavor.checkpointing.attempts import CLAIM_FILE, Place, PlaceCrowded, begun, swept
from shardflow.flavor.checkpointing.errors import SaveFailed, StepTaken
from shardflow.flavor.checkpointing.steps import MARKER_FILE, Steps
from shardflow.store.store import Store


def run_together(url: str, count: int, *, replace: bool, kept: int) -> list[int]:
    """So many processes that begin at the same moment; how many steps of each were refused."""
    begin, refused = warm().Barrier(count), warm().SimpleQueue()
    runs = [start(save_steps, url, name, kept, begin, refused, replace=replace) for name in range(count)]
    for run in runs:
        finish(run)
    found = dict(refused.get() for _ in runs)
    return [found[name] for name in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("replace", ["replace", "refuse"])
def test_two_processes_that_save_the_same_steps_never_mix_them(replace: str, tmp_path: Path) -> None:
    url = str(tmp_path.resolve() / "new" / "run")  # a store that both make
    refused = run_together(url, 2, replace=replace == "replace", kept=100)
    winners: Counter[int] = Counter()
    with AsyncCheckpointer(url) as checkpoints:
        assert checkpoints.steps() == list(range(STEPS))
        for step in range(STEPS):
            found = checkpoints.load(step)
            name = found["name"]
            assert (found["weights"] == 1000 * name + step).all()
            assert (found["last"] == 1000 * name + step + 1).all()
            winners[name] += 1
    assert sum(refused) == (0 if replace == "replace" else STEPS)
    if replace == "refuse":
        assert [STEPS - winners[name] for name in range(2)] == refused
    store, path = Store.find(url)
    for step in range(STEPS):
        below = files.below(store, Steps(store, path).path_of(step))
        assert len(below) == 3, below  # of the one that counts, and no claims


@pytest.mark.slow
def test_what_two_processes_remove_leaves_the_last_step_whole(tmp_path: Path) -> None:
    url = str(tmp_path.resolve() / "run")
    run_together(url, 2, replace=True, kept=1)
    with AsyncCheckpointer(url) as checkpoints:
        assert checkpoints.latest() == STEPS - 1
        found = checkpoints.load()
        assert (found["weights"] == 1000 * found["name"] + STEPS - 1).all()


def test_a_step_that_another_saved_meanwhile_is_refused_and_stays(url: str, gate: Gate, store: Store) -> None:
    with AsyncCheckpointer(url) as one:
        two = AsyncCheckpointer(url, keep=Retention(last=1))
        two.save(1, state(2))
        assert gate.reached.wait(60)
        gate.opened.set()
        two.wait()
        one.save(1, state(1))
        with pytest.raises(SaveFailed, match=r"step 1 was not saved: step 1 of .* is stored already; .*another URL"):
            one.wait()
        assert same(one.load(1), state(2))
        one.save(2, state(3))
        one.wait()
        two.close()
        assert one.steps() == [1, 2]
    assert files.below(store, "run/step-1") == {f"run/step-1/{name}" for name in _names()}


def test_who_commits_second_is_refused_and_leaves_nothing(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is done after this one has looked whether there is such a step."""
    commit = Steps._commit

    def late(self: Steps, *arguments: object, **options: object) -> None:
        monkeypatch.setattr(Steps, "_commit", commit)
        with AsyncCheckpointer(url) as other:
            other.save(1, state(2))
        commit(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Steps, "_commit", late)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
        with pytest.raises(SaveFailed) as caught:
            checkpoints.wait()
        assert isinstance(caught.value.__cause__, StepTaken)
        assert same(checkpoints.load(), state(2))
        directory = Steps(store, "run").marker(1).directory
    assert files.below(store, "run/step-1") == {
        f"run/step-1/{MARKER_FILE}",
        *(f"run/step-1/{directory}/{name}" for name in _names() if name != MARKER_FILE),
    }


@pytest.mark.parametrize("replace", [False, True])
def test_who_claims_a_step_late_does_not_write_over_what_another_saved_meanwhile(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch, *, replace: bool
) -> None:
    """The other claims the step, saves it and gives its claim back, all after this one has seen that there is none."""
    look, put_against, found = attempts._is_empty, files.put_against, []

    def outdated(place: Place, but_for: str = "") -> bool:
        monkeypatch.setattr(attempts, "_is_empty", look)
        empty = look(place, but_for)
        with AsyncCheckpointer(url) as other:
            other.save(1, state(2))
        monkeypatch.setattr(files, "put_against", loading_then)
        return empty

    def loading_then(*arguments: object, **options: object) -> None:
        put_against(*arguments, **options)  # type: ignore[arg-type]
        with AsyncCheckpointer(url) as other:
            found.append(same(other.load(1), state(2)))

    monkeypatch.setattr(attempts, "_is_empty", outdated)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1), replace=replace)
        with contextlib.nullcontext() if replace else pytest.raises(SaveFailed, match="is stored already"):
            checkpoints.wait()
        assert found == [True], "until the new one counts, the old one is whole"
        assert same(checkpoints.load(1), state(1 if replace else 2))
    assert len(files.below(store, "run/step-1")) == len(_names())


def _names() -> set[str]:
    return {MARKER_FILE, "state.safetensors", "tree.json"}


def test_what_somebody_is_writing_is_not_removed_and_what_a_dead_process_left_is(store: Store) -> None:
    place = Place(store, "run/step-1", MARKER_FILE, Steps(store, "run")._place(1).ours)
    mine = begun(place)
    files.put_text(store, f"{mine.path}/tree.json", b"{}")
    lost = {"killed": 2**22 + 1, "elsewhere": os.getpid()}
    for number, (name, process) in enumerate(lost.items(), 1):
        owner = msgspec.structs.replace(mine.owner, process=process, token=name)
        if name == "elsewhere":
            owner = msgspec.structs.replace(owner, host="another", started=owner.started - 23 * 3600)
        files.put_text(store, f"run/step-1/again-{number}/tree.json", b"{}")
        files.put_text(store, f"run/step-1/again-{number}/{CLAIM_FILE}", msgspec.json.encode(owner))
    files.put_text(store, "run/step-1/again-3/tree.json", b"{}")
    files.put_text(store, f"run/step-1/again-4/{CLAIM_FILE}", b"no claim")
    swept(place, lambda: None)
    assert set(place.files().values()) == {"", "again-2"}
    aged = msgspec.structs.replace(mine.owner, host="another", token="x", started=mine.owner.started - 25 * 3600)
    files.put_text(store, f"run/step-1/again-2/{CLAIM_FILE}", msgspec.json.encode(aged))
    mine.release()
    swept(place, lambda: "")
    assert files.below(store, "run/step-1") == {"run/step-1/tree.json"}


too_late = pytest.mark.parametrize(
    ("where", "name"),
    [(attempts, "_empty_itself"), (attempts, "put_over"), (files, "forget")],
    ids=["when it was seen what to remove", "when the claim was seen", "when the claim was taken over"],
)


def left_by_a_killed_process(store: Store) -> Place:
    """Step 2, of which not all is there, where the first save of a step goes."""
    place = Steps(store, "run")._place(2)
    mine = begun(place)
    mine.release()
    dead = msgspec.structs.replace(mine.owner, process=2**22 + 1)
    files.put_text(store, f"{place.path}/{CLAIM_FILE}", msgspec.json.encode(dead))
    files.put_text(store, f"{place.path}/state.safetensors", b"half")
    return place


def first(monkeypatch: pytest.MonkeyPatch, where: object, name: str, others: Callable[[], None]) -> None:
    """Let others do their part right before a function is called for the first time."""
    real = getattr(where, name)

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(where, name, real)
        others()
        return real(*arguments)

    monkeypatch.setattr(where, name, late)


@too_late
def test_who_tidies_late_leaves_the_step_that_another_saved_where_the_rubbish_was(
    url: str, store: Store, monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    """The other tidies as well, and saves the step, after this one has seen what to remove."""
    place = left_by_a_killed_process(store)

    def tidy_and_save() -> None:
        swept(place, lambda: None)
        with AsyncCheckpointer(url) as other:
            other.save(2, state(2))

    first(monkeypatch, where, name, tidy_and_save)
    Steps(store, "run").remove_unfinished(2)
    with AsyncCheckpointer(url) as checkpoints:
        assert same(checkpoints.load(2), state(2))
        directory = Steps(store, "run").marker(2).directory
    assert set(place.files().values()) == {directory}, "and none of the rubbish is left"


@too_late
def test_who_tidies_late_leaves_what_another_has_begun_to_write(
    store: Store, monkeypatch: pytest.MonkeyPatch, where: object, name: str
) -> None:
    place, writing = left_by_a_killed_process(store), []

    def tidy_and_begin() -> None:
        swept(place, lambda: None)
        writing.append(begun(place))
        files.put_text(store, f"{writing[0].path}/tree.json", b"{}")

    first(monkeypatch, where, name, tidy_and_begin)
    swept(place, lambda: None)
    (attempt,) = writing
    assert place.files() == {f"{attempt.path}/{file}": attempt.directory for file in ("tree.json", CLAIM_FILE)}
    attempt.release()


def test_a_place_that_was_tidied_is_used_again(store: Store) -> None:
    place = left_by_a_killed_process(store)
    swept(place, lambda: None)
    assert not files.below(store, place.path)
    with begun(place) as attempt:
        assert attempt.directory == ""


def test_a_container_with_other_process_numbers_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    owner = owners.new_owner()
    assert owners.may_be_alive(owner)
    gone = msgspec.structs.replace(owner, process=2**22 + 1)
    assert not owners.may_be_alive(gone)
    if owner.space:
        assert owners.may_be_alive(msgspec.structs.replace(gone, space="pid:[1]"))
    owners.ended(owner)
    assert not owners.may_be_alive(owner)


def test_a_place_that_others_take_all_the_time_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Steps(store, "run")._place(1)
    held = begun(place)
    monkeypatch.setattr("shardflow.flavor.checkpointing.attempts._new_name", lambda: "")
    with pytest.raises(PlaceCrowded, match="others save to"):
        begun(place)
    held.release()
