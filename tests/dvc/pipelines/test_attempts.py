"""Each training has a directory of the store to itself, also of those that begin at the same moment."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import psutil
import pytest

from shardflow.dvc import Checkpoints, attempts, load_checkpoint
from shardflow.dvc.attempts import Attempt, Claim, begun
from shardflow.store.store import Store


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_two_trainings_at_once_do_not_write_to_the_same_place() -> None:
    other = (
        "import sys; from shardflow.dvc import Checkpoints\n"
        "with Checkpoints(url='store') as checkpoints: print(checkpoints.url, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        theirs = process.stdout.readline().strip()
        with Checkpoints(url="store") as checkpoints:
            assert checkpoints.url != theirs
        process.communicate()


def test_of_two_that_want_the_same_place_one_gets_it(tmp_path: Path) -> None:
    store = Store.init(str(tmp_path / "store"))
    old = Claim("another machine", 1, 0.0)
    first = begun(store, "run", resume=True)
    assert first.path == "run/1"
    first.note("claim-1.json", json.dumps({"host": old.host, "pid": 1, "started": 0.0}).encode())
    assert begun(store, "run", resume=True).path == "run/1"  # its machine is gone, as far as can be told
    first.note("claim-9.json", json.dumps({"host": socket.gethostname(), "pid": 1, "started": 0.0}).encode())
    assert begun(store, "run", resume=True).path == "run/1"  # a process of that number lives, but is another


def other_claim(attempt: Attempt, number: int) -> None:
    """As a process that lives writes it."""
    parent = psutil.Process().parent()
    assert parent
    claim = Claim(socket.gethostname(), parent.pid, parent.create_time())
    attempt.note(f"claim-{number}.json", msgspec.json.encode(claim))


@pytest.mark.parametrize("interrupted", [False, True])
def test_who_comes_between_a_look_and_a_claim_has_the_place_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, interrupted: bool
) -> None:
    """The other one takes the directory, new or interrupted, after this one saw that nobody is at it."""
    store = Store.init(str(tmp_path / "store"))
    first = Attempt(store, "run/1")
    if interrupted:
        first.note("claim-1.json", msgspec.json.encode(Claim("another machine", 1, 0.0)))
    claimed = attempts._claimed

    def late(attempt: Attempt, *rest: int) -> bool:
        monkeypatch.setattr(attempts, "_claimed", claimed)
        other_claim(first, 2 if interrupted else 1)
        return claimed(attempt, *rest)

    monkeypatch.setattr(attempts, "_claimed", late)
    assert begun(store, "run", resume=True).path == "run/2"
    assert len(first.names()) == (2 if interrupted else 1), "no claim of ours there"


def test_two_trainings_of_one_process_that_begin_at_once_have_a_place_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread takes the directory after this one saw that nobody is at it."""
    store = Store.init(str(tmp_path / "store"))
    claimed, theirs = attempts._claimed, []

    def late(attempt: Attempt, number: int) -> bool:
        monkeypatch.setattr(attempts, "_claimed", claimed)
        theirs.append(begun(store, "run", resume=False).path)
        return claimed(attempt, number)

    monkeypatch.setattr(attempts, "_claimed", late)
    assert begun(store, "run", resume=False).path == "run/2"
    assert theirs == ["run/1"]


def test_a_training_is_running_in_this_process_until_it_has_left_or_is_gone(tmp_path: Path) -> None:
    store = Store.init(str(tmp_path / "store"))
    first = begun(store, "run", resume=True)
    second = begun(store, "run", resume=True)
    assert (first.path, second.path) == ("run/1", "run/2")
    second.leave()
    assert begun(store, "run", resume=True).path == "run/2"  # nobody kept this one
    assert begun(store, "run", resume=True).path == "run/2"


def test_a_training_leaves_while_others_begin(tmp_path: Path) -> None:
    store = Store.init(str(tmp_path / "store"))
    mine, left = begun(store, "run", resume=True), threading.Event()

    def begin_others() -> None:
        others = []
        while not left.is_set():
            others.append(Attempt(store, "other"))
            attempts._held[str(len(others))] = others[-1]

    with ThreadPoolExecutor(1) as thread:
        thread.submit(begin_others)
        try:
            for _ in range(200):
                mine.leave()
        finally:
            left.set()
    assert begun(store, "run", resume=True).path == mine.path


def test_two_trainings_that_make_the_store_at_once_both_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    init = Store.init

    def late(url: str) -> Store:
        monkeypatch.setattr(Store, "init", init)
        init(url)
        return init(url)

    monkeypatch.setattr(Store, "init", late)
    with Checkpoints(url=str(tmp_path / "store")) as checkpoints:
        checkpoints.save(1, {"number": 1})
    assert load_checkpoint("checkpoint.json")["number"] == 1
