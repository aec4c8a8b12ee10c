"""A loop is compiled once for a machine; later processes run its kept code, and only what was made for them."""

from __future__ import annotations

import threading
from pathlib import Path

import numba
import numpy as np
import pytest

from loops.pieces import ADDING, Compilations, loops_of, run, source
from shardflow.loops import LoopSet, linking, loopset


def works(loops: LoopSet, width: int = 2) -> bool:
    words = np.arange(1000, dtype=f"u{width}")
    out = np.empty_like(words)
    return loops.loop("add", width)(words, 3, out) == 1000 and (out == words + 3).all()


def test_a_loop_is_compiled_once_for_each_width(place: Path, tmp_path: Path, compilations: Compilations) -> None:
    module = source(tmp_path)
    for _ in range(3):
        assert works(loops_of(module), 2)
        assert works(loops_of(module), 4)
    assert compilations.count == 2
    assert len(list(place.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"foreign", b"shardflow loop 1\n" + bytes(3000)])
def test_a_file_that_is_not_what_was_kept_is_replaced(
    place: Path, tmp_path: Path, compilations: Compilations, damage: bytes
) -> None:
    module = source(tmp_path)
    assert works(loops_of(module))
    (file,) = place.iterdir()
    whole = file.read_bytes()
    file.write_bytes(damage)
    assert works(loops_of(module))
    assert compilations.count == 2
    assert len(file.read_bytes()) == len(whole)
    assert works(loops_of(module))
    assert compilations.count == 2


def test_code_that_llvm_cannot_link_is_replaced(place: Path, tmp_path: Path, compilations: Compilations) -> None:
    from shardflow.loops import keeping

    module = source(tmp_path)
    assert works(loops_of(module))
    (file,) = place.iterdir()
    keeping.keep(bytes.fromhex(file.name), b"no object file, although it is signed as one")
    assert works(loops_of(module))
    assert works(loops_of(module))
    assert compilations.count == 2


@pytest.mark.parametrize("part", range(5))
def test_code_for_another_processor_or_by_another_llvm_is_not_run(
    place: Path, tmp_path: Path, compilations: Compilations, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    module = source(tmp_path)
    assert works(loops_of(module))
    here = linking.host()
    there = (*here[:part], here[part] + "+other", *here[part + 1 :])
    target = linking.target_machine()
    monkeypatch.setattr(linking, "target_machine", lambda: target)
    monkeypatch.setattr(linking, "host", lambda: there)
    assert works(loops_of(module))
    assert compilations.count == 2
    assert len(list(place.iterdir())) == 2


def test_code_of_another_source_is_not_run(place: Path, tmp_path: Path, compilations: Compilations) -> None:
    assert works(loops_of(source(tmp_path)))
    loops = loops_of(source(tmp_path, ADDING.replace("amount", "much")))
    assert works(loops)
    assert compilations.count == 2


@pytest.mark.parametrize("library", ["numba", "numpy"])
def test_code_by_other_versions_of_libraries_is_not_run(
    place: Path, tmp_path: Path, compilations: Compilations, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    module = source(tmp_path)
    assert works(loops_of(module))
    if library == "numpy":
        monkeypatch.setattr(np, "__version__", "newer")
    else:
        (tmp_path / "_version.py").write_text("newer")
        monkeypatch.setattr(numba.__spec__, "origin", str(tmp_path / "__init__.py"))
        loopset._digest_at_first.cache_clear()
    assert works(loops_of(module))
    assert compilations.count == 2
    loopset._digest_at_first.cache_clear()


def test_what_was_compiled_while_its_source_changed_is_not_kept(place: Path, tmp_path: Path) -> None:
    loops = loops_of(module := source(tmp_path))
    assert works(loops, 2)
    (tmp_path / f"{module}.py").write_text(ADDING.replace("+", "-"))
    assert works(loops, 4)
    assert len(list(place.iterdir())) == 1


def test_a_loop_that_calls_what_others_may_not_have_is_not_kept(place: Path, tmp_path: Path) -> None:
    calling = "import math\n" + ADDING.replace("return out.size", "return int(out.size * math.erf(out.size))")
    assert works(loops_of(source(tmp_path, calling)))
    assert not place.exists()


def test_what_llvm_will_not_link_serves_in_the_process_that_compiled_it(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(code: bytes) -> int:
        raise RuntimeError("no such format")

    monkeypatch.setattr(linking, "linked", refused)
    for _ in range(2):
        assert works(loops_of(source(tmp_path)))
    assert not place.exists()


def test_what_numba_is_told_to_do_otherwise_is_not_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert works(loops_of(source(tmp_path)))
    assert not place.exists()


def test_a_place_that_cannot_be_written_costs_time_only(
    place: Path, tmp_path: Path, compilations: Compilations
) -> None:
    place.write_text("in the way")
    for _ in range(2):
        assert works(loops_of(source(tmp_path)))
    assert compilations.count == 2


def test_a_loop_that_does_not_compile_says_so_each_time(place: Path, tmp_path: Path) -> None:
    loops = loops_of(source(tmp_path, ADDING.replace("words[i]", "nothing")))
    for _ in range(2):
        with pytest.raises(Exception, match="nothing"):
            works(loops)


def test_many_threads_may_ask_for_a_loop_and_run_it_at_once(
    place: Path, tmp_path: Path, compilations: Compilations
) -> None:
    loops, done = loops_of(source(tmp_path)), []
    threads = [threading.Thread(target=lambda: done.append(all(works(loops) for _ in range(200)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 8
    assert compilations.count == 1


LOADING = """
import os, sys, threading
import numpy as np
from shardflow.store.gear import Gear
from shardflow.codec.kernels import best_kernels, flag_kernels_for, step_kernels_for
data = np.random.default_rng(1).bytes(1 << 20)
"""
CUTTING = LOADING + "print(Gear().cuts(data, True), 'numba' in sys.modules)"
EVERY_LOOP = (
    LOADING + "print(*(type(k).__name__ for k in (best_kernels(), step_kernels_for(1), flag_kernels_for(1))), "
    "Gear().cuts(data, True)[0], 'numba' in sys.modules)"
)


def test_a_later_process_runs_every_loop_without_numba(place: Path) -> None:
    outputs = [run(EVERY_LOOP, SHARDFLOW_KERNELS="numba").split() for _ in range(2)]
    assert outputs[0][:-1] == outputs[1][:-1]
    assert outputs[1][:3] == ["FusedKernels", "FusedStepKernels", "FusedFlagKernels"]
    assert [output[-1] for output in outputs] == ["True", "False"]


def test_compiled_loops_are_no_use_to_a_machine_without_numba(place: Path) -> None:
    run(CUTTING, SHARDFLOW_KERNELS="numba")
    without = "import sys; sys.modules['numba'] = None\n"
    best = "\nfrom shardflow.store import gear; print(gear._scans.best().__name__)"
    assert run(without + LOADING + best) == "_scan_numpy\n"


def test_the_child_of_a_fork_runs_what_its_parent_loaded_and_loads_more(place: Path) -> None:
    program = (
        LOADING
        + """
from shardflow.codec.kernels.fused_flags import FusedFlagKernels
def flags(width):
    words, out = np.arange(64, dtype=f"u{width}"), np.zeros(1, "u8")
    FusedFlagKernels().unequal(words, words[::-1].copy(), out)
    return int(out[0])
assert flags(2) == 2**64 - 1
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(0 if flags(2) == flags(4) == 2**64 - 1 else 1)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children], flags(2) == 2**64 - 1)
"""
    )
    for _ in range(2):
        assert run(program, SHARDFLOW_KERNELS="numba") == "[0, 0, 0] True\n"


def test_a_child_forked_while_a_loop_is_compiled_is_left_to_numpy(place: Path) -> None:
    program = (
        LOADING
        + """
from shardflow.loops import compiling
from shardflow.store import gear
begun, go_on, before = threading.Event(), threading.Event(), compiling.compiled
def compiled(*given):
    begun.set()
    go_on.wait(60)
    return before(*given)
compiling.compiled = compiled
gear._scans.expect(1 << 30)
begun.wait(60)
child = os.fork()
go_on.set()
cuts = Gear().cuts(data, True)
best = gear._scans.best().__name__
if not child:
    os._exit(0 if best == "_scan_numpy" and cuts == Gear().cuts(data, True) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), best)
"""
    )
    assert run(program) == "0 loop\n"


def test_a_process_may_end_while_its_threads_are_in_a_loop(place: Path) -> None:
    program = (
        LOADING
        + """
data = data * 64
def cut():
    while True:
        Gear().cuts(data, True)
for _ in range(3):
    threading.Thread(target=cut, daemon=True).start()
Gear().cuts(data, True)
"""
    )
    assert run(program, SHARDFLOW_KERNELS="numba") == ""
