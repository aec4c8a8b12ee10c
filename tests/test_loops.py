"""Two forms of the same loops: numpy's serve until the compiled ones are ready, and nobody waits who did not ask to."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import ModuleType

import pytest

from shardflow.errors import ShardflowError
from shardflow.loops import MANY_BITS, Loops

LARGE, SMALL = 1 << 20, 10


@pytest.fixture(autouse=True)
def nothing_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHARDFLOW_KERNELS", raising=False)


def loops(make: Callable[[], str]) -> Loops[str]:
    return Loops("plain", make, worth=1000)


def missing() -> str:
    raise ImportError("no numba")


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
    assert both.serving(SMALL) == "plain"


def test_small_work_does_not_start_a_compiler() -> None:
    made: list[int] = []
    both = loops(lambda: str(made.append(1)))
    assert both.serving(SMALL) == "plain"
    assert not made


def test_bits_start_a_compiler_once_they_were_many_and_are_served_by_it_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    made: list[int] = []

    def make() -> str:
        made.append(1)
        return "compiled"

    both = loops(make)
    assert [both.serving_bits(1000) for _ in range(MANY_BITS)] == ["plain"] * MANY_BITS
    assert not made
    both.serving_bits(SMALL)
    assert both.best() == "compiled"
    assert both.serving_bits(SMALL) == "compiled"
    assert made == [1]


def test_bits_are_served_by_compiled_loops_where_others_had_numba_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", ModuleType("numba"))
    begun = threading.Event()

    def make() -> str:
        begun.set()
        return "compiled"

    both = loops(make)
    both.serving_bits(SMALL)
    assert begun.wait(10)
    assert both.best() == "compiled"
    assert both.serving_bits(SMALL) == "compiled"


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


def test_what_the_environment_asks_for_is_had_at_once_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_KERNELS", "numba")
    assert loops(lambda: "compiled").serving(SMALL) == "compiled"
    with pytest.raises(ShardflowError, match="does not work here; unset it"):
        loops(missing).serving(LARGE)
    monkeypatch.setenv("SHARDFLOW_KERNELS", "numpy")
    both = loops(lambda: "compiled")
    assert [both.serving(LARGE), both.best()] == ["plain", "plain"]


def test_a_process_that_ends_at_once_does_not_fall_over_its_compiler() -> None:
    import subprocess
    import sys

    program = (
        "import numpy as np\nfrom shardflow import codec\nfrom shardflow.dtype import DType\n"
        "data = (np.random.default_rng(5).standard_normal(1 << 19) * 0.02).astype('<f4').tobytes()\n"
        "codec.encode(data, DType.F32)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
