"""One measurement, in a process of its own: `python -m shardflow.flavor.measuring.one PARAMETERS`, answered in JSON.

What is timed is the operation alone, several times over: its libraries are imported, the state is in memory, and the
same was done once before in full. That run tells the peak of memory, and it is a warm-up in more than one way: the host
of a virtual machine takes free memory back after seconds and gives it again at a fraction of a gigabyte a second, to
whoever comes first. Ways that take minutes go with a tiny state as a warm-up.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from safetensors.torch import load_file

from shardflow.flavor.copying import as_memory
from shardflow.flavor.measuring import shapes
from shardflow.flavor.measuring.ways import WAYS, State, Way, bytes_at, made_place, removed


def main() -> None:
    print(json.dumps(answer(json.loads(sys.argv[1]))))


def answer(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, measured."""
    states = Path(asked["states"])
    if asked["verb"] == "checksums":
        return checksums(shapes.read(states, shapes.WEIGHTS))
    way = WAYS[asked["way"]]
    warm_up(way, asked["place"] + "-tiny")
    work = saving if asked["verb"] == "save" else loading
    return work(way, asked["place"], states, asked)


def warm_up(way: Way, place: str) -> None:
    """A small state of whole chunks, so that what is compiled or started on first use is there."""
    torch.manual_seed(1)
    before = {"large": torch.empty(2048, 4096, dtype=torch.bfloat16).normal_(0, 0.02), "small": torch.ones(8)}
    state = before | {"large": shapes.trained_on(before["large"])}
    made_place(way, place)
    if way.before:
        way.before(before, place)
    way.save(state, place)
    if way.loads:
        way.load(place)
    removed(way, place)


def saving(way: Way, place: str, states: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Save as often as asked, each time to a new place; what the last run saved stays."""
    state = shapes.read(states, way.weights)
    places = [*(f"{place}-{number}" for number in range(1, asked["runs"])), place]
    runs = [_saved(way, each, states, state, first=each == places[0], stays=each == place) for each in places]
    return told(runs) | {"bytes": runs[-1]["bytes"]}


def _saved(way: Way, place: str, states: Path, state: State, *, first: bool, stays: bool) -> dict[str, Any]:
    made_place(way, place)
    if way.before:
        way.before(shapes.read(states, shapes.WEIGHTS), place)
    held = bytes_at(way, place)
    os.sync()  # or the save would wait for what others wrote
    found = measured(lambda: way.save(state, place), for_peak=first) | {"bytes": bytes_at(way, place) - held}
    if not stays:
        os.sync()  # not between the removal and the next save, which is to find memory that was just given up
        removed(way, place)
    return found


def loading(way: Way, place: str, states: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Load as often as asked, and compare what came back last with what was saved."""
    local = not place.startswith("shardflow:") or place.startswith("shardflow://file")
    if local:
        _prepare_cache(_directory(place), cold=asked["cold"])
    kept: list[State] = []
    runs: list[Mapping[str, Any]] = []
    for _ in range(asked["runs"]):
        kept.clear()
        if local and asked["cold"]:
            _prepare_cache(_directory(place), cold=True)
        runs.append(measured(lambda: kept.append(way.load(place)), for_peak=not runs))
    _require_same(kept.pop(), load_file(states / way.weights))
    return told(runs)


def told(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the runs took; where there are several, the first is a warm-up that tells the peak of memory."""
    timed = runs[1:] or runs
    return {"seconds": [run["seconds"] for run in timed], "peak_bytes": runs[0]["peak_bytes"]}


def _directory(place: str) -> Path:
    return Path(place.removeprefix("shardflow://file"))


def checksums(state: dict[str, torch.Tensor]) -> dict[str, Any]:
    """What it takes to run once over all of a state: BLAKE3 with all cores, as the store has it, and torch's CRC-32."""
    parts = [as_memory(tensor) for tensor in state.values()]
    digest, took = blake3(max_threads=blake3.AUTO), {}
    began = time.perf_counter()
    for part in parts:
        digest.update(part)
    took["blake3"] = time.perf_counter() - began
    began = time.perf_counter()
    for part in parts:
        zlib.crc32(part)
    return took | {"crc32": time.perf_counter() - began}


def measured(work: Callable[[], Any], *, for_peak: bool = False) -> dict[str, Any]:
    """Seconds, CPU seconds, and the most memory there was beyond what was there before.

    A run `for_peak` begins without memory that was given up before and is the process's still: what is taken of that
    would not show. Runs that are timed begin with it.
    """
    gc.collect()
    if for_peak:
        _give_free_memory_back()
    peaks = _forget_peak()
    before, cpu, began = _status("VmRSS"), time.process_time(), time.perf_counter()
    said = work()
    seconds, used = time.perf_counter() - began, time.process_time() - cpu
    peak = _status("VmHWM") - before if peaks else None
    found = {"seconds": seconds, "cpu_seconds": used, "peak_bytes": peak}
    return found | (said if isinstance(said, dict) else {})


def _require_same(found: State, wanted: State) -> None:
    different = [name for name in wanted if name not in found or not _same(found[name], wanted[name])]
    if different or len(found) != len(wanted):
        raise SystemExit(f"what came back differs: {different[:3]}")


def _same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.dtype == wanted.dtype and torch.equal(found.view(torch.uint8), wanted.view(torch.uint8))


def _prepare_cache(directory: Path, *, cold: bool) -> None:
    """Bring every file into the page cache, or have the kernel drop it."""
    os.sync()  # what is not on the disk yet cannot be dropped
    for file in directory.rglob("*"):
        if not file.is_file():
            continue
        with file.open("rb", buffering=0) as opened:
            if cold and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while not cold and opened.read(8 << 20):
                pass


def _give_free_memory_back() -> None:
    """To the system; only glibc lets others ask for that."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _forget_peak() -> bool:
    """Let the kernel's peak begin anew; only Linux can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:")), 0)


if __name__ == "__main__":
    main()
