"""Many small objects at once on a disk: the promises of a single write, kept for each of them."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shardflow.errors import Cancelled
from shardflow.transport import (
    AlreadyThere,
    Cancellation,
    NameTaken,
    NewObject,
    NoSpace,
    StoreURL,
    Transport,
    connect,
    local_forcing,
)
from transport.conftest import run_python, unfinished

COUNT = 40


@pytest.fixture(autouse=True)
def any_disk_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the tests run on, and whatever else is written there."""
    monkeypatch.setattr("shardflow.transport.local.disk_below", lambda _: local_forcing.Disk())
    monkeypatch.setattr(local_forcing, "waiting_bytes", lambda: 0)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done on the disk, in order."""
    found: list[str] = []

    def noting(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def noted(*arguments: object) -> object:
            found.append(name)
            return real(*arguments)

        return noted

    monkeypatch.setattr(local_forcing, "sync_file_system", noting("all forced", local_forcing.sync_file_system))
    for name, function in (("write", "write"), ("name", "rename"), ("name", "link"), ("fsync", "fsync")):
        monkeypatch.setattr(os, function, noting(name, getattr(os, function)))
    return found


def new(number: int, *, content: bytes = b"", if_absent: bool = False) -> NewObject:
    return NewObject(f"tree/{number % 7}/{number}", memoryview(content or b"%d" % number), if_absent)


def many(count: int = COUNT, *, if_absent: bool = False) -> list[NewObject]:
    return [new(number, if_absent=if_absent) for number in range(count)]


def contents(store: Transport) -> dict[str, bytes]:
    return {info.key: bytes(store.read(info.key)) for info in store.list("tree")}


@pytest.mark.parametrize("if_absent", [False, True])
def test_all_data_is_on_the_disk_before_any_name_and_all_names_before_the_return(
    store: Transport, steps: list[str], if_absent: bool
) -> None:
    store.write("tree/0/first", b"")  # makes the store
    steps.clear()
    assert store.write_all(many(if_absent=if_absent)) == [None] * COUNT
    assert steps == [*["write"] * COUNT, "all forced", *steps[COUNT + 1 : -1], "all forced"]
    assert set(steps[COUNT + 1 : -1]) == {"name"}  # with some tries before their directories were made
    assert len(contents(store)) == COUNT + 1


def test_where_others_have_much_to_write_each_file_and_directory_is_forced_by_itself(
    root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch, forced: list[str]
) -> None:
    monkeypatch.setattr(local_forcing, "waiting_bytes", lambda: sys.maxsize)
    monkeypatch.setattr(local_forcing, "sync_file_system", lambda _: pytest.fail("waits for others"))
    store.write_all(many())
    files = [path for path in forced if path.endswith(".part")]
    assert len(files) == COUNT
    last_file = max(index for index, path in enumerate(forced) if path.endswith(".part"))
    directories = {str(root / "tree" / str(number)) for number in range(7)} | {str(root), str(root / "tree")}
    assert directories <= set(forced[last_file:])


def test_nothing_is_forced_where_the_user_chose_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, steps: list[str]
) -> None:
    monkeypatch.setenv("SHARDFLOW_FSYNC", "0")
    store = connect(StoreURL("file", str(root)))
    assert store.write_all(many()) == [None] * COUNT
    assert not {"fsync", "all forced"} & set(steps)
    assert len(contents(store)) == COUNT


def test_more_than_are_best_at_once_are_written_in_turns(store: Transport, steps: list[str]) -> None:
    count = store.together * 2 + 3
    assert store.write_all(many(count)) == [None] * count
    assert steps.count("all forced") == 6
    assert contents(store) == {f"tree/{number % 7}/{number}": b"%d" % number for number in range(count)}
    assert store.totals.objects_written == count


def test_none_at_all_is_nothing_to_do(root: Path, store: Transport) -> None:
    assert store.write_all([]) == []
    assert not root.exists()


def test_those_that_must_not_replace_are_refused_and_the_others_are_there(store: Transport) -> None:
    for number in (3, 4):
        store.write(new(number).key, b"before")
    objects = [new(number, if_absent=number != 4) for number in range(8)]
    failures = store.write_all(objects)
    assert [type(failure) for failure in failures] == [AlreadyThere if n == 3 else type(None) for n in range(8)]
    assert "tree/3/3" in str(failures[3])
    assert contents(store)["tree/3/3"] == b"before"
    assert contents(store)["tree/4/4"] == b"4"
    assert len(contents(store)) == 8


def test_one_without_a_place_fails_by_itself(root: Path, store: Transport) -> None:
    store.write("tree/5", b"a file where a directory is needed")
    failures = store.write_all(many())
    refused = [number for number in range(COUNT) if number % 7 == 5]
    assert [number for number, failure in enumerate(failures) if failure] == refused
    assert all(isinstance(failures[number], NameTaken) for number in refused)
    assert len(contents(store)) == COUNT - len(refused) + 1
    assert unfinished(root) == []


def test_if_all_are_refused_no_directory_is_forced(store: Transport) -> None:
    store.write_all(many(if_absent=True))
    assert {type(failure) for failure in store.write_all(many(if_absent=True))} == {AlreadyThere}


def test_a_disk_that_fills_up_in_the_middle_leaves_nothing_of_them(
    root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("tree/0/0", b"before")
    write, left = os.write, [20]

    def until_full(fd: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        return write(fd, data)

    monkeypatch.setattr(os, "write", until_full)
    failures = store.write_all(many())
    assert {type(failure) for failure in failures} == {NoSpace}
    assert "cannot write tree/6/20 in" in str(failures[20])
    assert "free some space" in str(failures[20])
    assert contents(store) == {"tree/0/0": b"before"}
    assert unfinished(root) == []


def test_a_file_that_cannot_be_forced_is_told_though_only_all_at_once_were_tried_first(
    root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store.write("tree/0/first", b"")
    monkeypatch.setattr(local_forcing, "sync_file_system", broken)
    assert store.write_all(many()) == [None] * COUNT  # a file of someone else could not be written
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", broken)
    failures = store.write_all([new(number, content=b"new") for number in range(COUNT)])
    assert all("input/output error" in str(failure) for failure in failures)
    monkeypatch.setattr(os, "fsync", fsync)
    assert contents(store)["tree/1/1"] == b"1"
    assert unfinished(root) == []


def test_a_hiccup_with_one_of_them_passes(store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("tree/0/first", b"")
    rename, busy = os.rename, [True]

    def once_busy(source: str, target: str) -> None:
        if target.endswith("/17") and busy:
            busy.pop()
            raise OSError(errno.EBUSY, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(os, "rename", once_busy)
    assert store.write_all(many()) == [None] * COUNT
    assert contents(store)["tree/3/17"] == b"17"


def test_a_cancelled_session_writes_none(root: Path, store: Transport) -> None:
    cancel = Cancellation()
    cancel.cancel("enough")
    with pytest.raises(Cancelled, match="enough"):
        store.session(cancel).write_all(many())
    assert not root.exists()


def test_an_interruption_leaves_no_temporaries(root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, left = os.rename, [10]

    def interrupted(source: str, target: str) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        rename(source, target)
        left[0] -= 1

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write_all(many())
    assert contents(store) == {f"tree/{number % 7}/{number}": b"%d" % number for number in range(10)}
    assert unfinished(root) == []


@pytest.mark.parametrize(
    ("function", "at", "visible"), [("write", 25, 0), ("syncfs", 1, 0), ("rename", 10, 9), ("syncfs", 2, COUNT)]
)
def test_a_writer_killed_at_any_step_leaves_whole_objects_and_what_can_be_swept_up(
    root: Path, store: Transport, function: str, at: int, visible: int
) -> None:
    store.write("tree/0/0", b"before")
    for number in range(7):
        store.write(f"tree/{number}/other", b"")
    done = run_python(
        """
        from shardflow.transport import local, local_forcing
        local.disk_below = lambda _: local_forcing.Disk()
        local_forcing.waiting_bytes = lambda: 0
        function, at = sys.argv[2], int(sys.argv[3])
        place = (local_forcing, "sync_file_system") if function == "syncfs" else (os, function)
        real, calls = getattr(*place), []
        def deadly(*arguments):
            calls.append(arguments)
            if len(calls) == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments)
        setattr(*place, deadly)
        store.write_all([NewObject(f"tree/{n % 7}/{n}", memoryview(b"%d" % n * 500)) for n in range(40)])
        """,
        str(root),
        function,
        str(at),
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    found = {key: data for key, data in contents(store).items() if not key.endswith("other")}
    assert found.pop("tree/0/0") == (b"0" * 500 if visible else b"before")
    assert found == {f"tree/{number % 7}/{number}": b"%d" % number * 500 for number in range(1, visible)}
    assert len(unfinished(root)) == (25 if function == "write" else COUNT - visible)
    store.stale_temporaries(-1, remove=True)
    assert unfinished(root) == []


class TestTwoWriters:
    """The same objects at the same time."""

    @pytest.fixture(autouse=True)
    def take_turns(self) -> Iterator[None]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        yield
        sys.setswitchinterval(before)

    def test_one_of_them_creates_each(self, root: Path, store: Transport) -> None:
        def create(mine: bytes) -> list[bool]:
            objects = [new(number, content=mine * 300, if_absent=True) for number in range(COUNT)]
            return [failure is None for failure in store.write_all(objects)]

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(create, (b"a", b"b"))
        assert all(one != other for one, other in zip(first, second, strict=True))
        found = contents(store)
        for number, won in enumerate(first):
            assert found[new(number).key] == (b"a" if won else b"b") * 300
        assert unfinished(root) == []

    def test_of_those_who_replace_one_has_the_last_word_on_each(self, root: Path, store: Transport) -> None:
        def replace(mine: bytes) -> None:
            for _ in range(5):
                assert not any(store.write_all([new(number, content=mine * 300) for number in range(COUNT)]))

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(replace, (b"a", b"b")))
        assert set(contents(store).values()) <= {b"a" * 300, b"b" * 300}
        assert len(contents(store)) == COUNT
        assert unfinished(root) == []
