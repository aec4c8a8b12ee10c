"""Two forms of the same loops: numpy's serve until the compiled ones are ready, and nobody waits who did not ask to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from shardflow.errors import ShardflowError
from shardflow.loops.choosing import CHEAPER, LINKER, PATIENCE, Loops

LARGE, SMALL = 1 << 20, 10


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDFLOW_KERNELS", raising=False)
    monkeypatch.delitem(sys.modules, LINKER, raising=False)


def loops(make: Callable[[], str]) -> Loops[str]:
    return Loops("plain", make, worth=1000)


def missing() -> str:
    raise ImportError("no numba")


def broken() -> str:
    raise AssertionError("in the midst of compiling")


def test_plain_loops_serve_while_the_others_are_made_and_those_from_then_on() -> None:
    may_end = threading.Event()

    def make() -> str:
        may_end.wait(10)
        return "compiled"

    both = loops(make)
    assert both.serving(LARGE) == "plain"
    assert both.serving(LARGE) == "plain"
    may_end.set()
    assert both.best() == "compiled"
    assert both.serving(LARGE) == "compiled"
    assert both.serving(SMALL) == "compiled"


def test_a_little_work_does_not_start_a_compiler() -> None:
    made: list[int] = []
    both = loops(lambda: str(made.append(1)))
    assert both.serving(1000) == "plain"
    assert both.plain == "plain"
    assert not made


def test_much_small_work_is_worth_a_compiler_in_the_end_which_then_serves_any_size() -> None:
    both = loops(lambda: "compiled")
    assert [both.serving(SMALL) for _ in range(100)] == ["plain"] * 100
    both.serving(SMALL)
    assert both.best() == "compiled"
    assert both.serving(SMALL) == "compiled"


def test_less_work_is_worth_it_where_others_have_had_llvm_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, LINKER, ModuleType(LINKER))
    begun = threading.Event()
    both = loops(lambda: str(begun.set()))
    both.serving(1000 // CHEAPER + 1)
    assert begun.wait(10)


def test_work_that_is_announced_has_them_made_before_it_comes() -> None:
    begun = threading.Event()
    both = loops(lambda: str(begun.set()))
    both.expect(1000)
    assert not begun.is_set()
    both.expect(1001)
    assert begun.wait(10)


def test_who_announces_work_waits_until_they_are_loaded_and_not_until_they_are_compiled() -> None:
    loaded = loops(lambda: "compiled")
    loaded.expect(LARGE)
    assert loaded.serving(SMALL) == "compiled"

    may_end = threading.Event()
    compiling = loops(lambda: "compiled" if may_end.wait(60) else "")
    began = time.monotonic()
    for _ in range(100):
        compiling.expect(LARGE)
    assert time.monotonic() - began < 10 * PATIENCE, "it is waited for once, not for each file"
    assert compiling.serving(SMALL) == "plain"
    may_end.set()
    assert compiling.best() == "compiled"


def test_work_that_is_announced_while_no_thread_can_begin_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    def ending(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    both = loops(lambda: "compiled")
    monkeypatch.setattr(threading.Thread, "start", ending)
    both.expect(LARGE)
    assert both.serving(LARGE) == "plain"


def test_they_are_made_once_however_many_ask() -> None:
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return "compiled"

    both = loops(make)
    threads = [threading.Thread(target=both.best) for _ in range(8)]
    for thread in threads:
        thread.start()
        both.serving(LARGE)
    for thread in threads:
        thread.join()
    assert made == [1]


def test_where_there_is_no_compiler_the_plain_ones_serve_and_it_is_looked_for_once() -> None:
    tries: list[int] = []

    def make() -> str:
        tries.append(1)
        raise ImportError

    both = loops(make)
    assert [both.best(), both.serving(LARGE), both.best()] == ["plain"] * 3
    assert tries == [1]


def test_a_compiler_that_fails_in_any_way_leaves_the_work_to_numpy() -> None:
    both = loops(broken)
    assert [both.best(), both.serving(LARGE)] == ["plain"] * 2


def test_what_the_environment_asks_for_is_had_at_once_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_KERNELS", "numba")
    assert loops(lambda: "compiled").serving(SMALL) == "compiled"
    with pytest.raises(ShardflowError, match="does not work here; unset it"):
        loops(missing).serving(LARGE)
    monkeypatch.setenv("SHARDFLOW_KERNELS", "numpy")
    both = loops(lambda: "compiled")
    assert [both.serving(LARGE), both.best()] == ["plain", "plain"]


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_process_that_ends_at_once_does_not_fall_over_its_compiler(tmp_path: Path) -> None:
    program = "from shardflow.store.gear import Gear\nGear().expect(1 << 30)"
    for _ in range(2):
        run(program, SHARDFLOW_LOOPS=str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1


def test_the_child_of_a_fork_makes_its_own_while_its_parent_does(tmp_path: Path) -> None:
    program = """
import os, threading, time
from shardflow.loops.choosing import Loops
begun, go_on = threading.Event(), threading.Event()
def make():
    begun.set()
    go_on.wait(60)
    return "compiled"
both = Loops("plain", make, worth=0)
both.serving(1)
begun.wait(60)
child = os.fork()
go_on.set()
if not child:
    made = both.best()
    os._exit(0 if made == "compiled" else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), both.best())
"""
    assert run(program) == "0 compiled\n"
