"""Runs every way in turn, in processes of their own, and keeps what they took."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from shardflow.errors import ShardflowError
from shardflow.flavor.measuring import shapes
from shardflow.flavor.measuring.shapes import Llama
from shardflow.flavor.measuring.ways import WAYS, Way, removed

ROUNDS = 3
RUNS, RUNS_ON_S3 = 3, 2  # of each verb in a process, the first of which is a warm-up; where a save takes long, fewer
ON_S3, ON_DISK = "S3", "local disk"
LIBRARIES = ("shardflow", "torch", "tensorstore", "safetensors", "numpy", "numba", "zstandard", "blake3")


class MeasuringFailed(ShardflowError):
    """A measured process ended with an error: no figure is worth more than that."""


@dataclass(slots=True)
class Row:
    """What one way took, run by run."""

    way: str
    save: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    load_cold: list[float] = field(default_factory=list)
    bytes: int = 0
    save_peak: int | None = None  # beyond the state itself
    load_peak: int | None = None  # the state among it

    def median(self, what: str) -> float | None:
        values: list[float] = getattr(self, what)
        return statistics.median(values) if values else None


@dataclass(frozen=True, slots=True)
class Results:
    """Everything there is to show."""

    bytes: int
    rounds: int
    place: str
    changed: float  # of the weights, from one checkpoint to the one 10 steps on
    checksums: dict[str, float]
    machine: dict[str, str | int | float]
    rows: dict[str, Row]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure."""

    llama: Llama
    ways: Sequence[str] = tuple(WAYS)
    rounds: int = ROUNDS
    s3: str | None = None  # a URL below which stores are made, in place of the disk
    cold: bool = False
    directory: Path | None = None


def run(wanted: Wanted, said: Callable[[str], None] = lambda _: None) -> Results:
    """Measure, each way in its turn; those that take minutes are run once."""
    with _workspace(wanted) as space:
        said("make the states")
        shapes.prepare(space, wanted.llama)
        rows = {name: Row(name) for name in wanted.ways}
        for number in range(wanted.rounds):
            order = list(wanted.ways) if number % 2 == 0 else list(reversed(wanted.ways))
            for name in order:
                if WAYS[name].slow and number:
                    continue
                said(f"{name}, round {number + 1}")
                _measure(rows[name], wanted, space, number)
        said("checksums")
        sums = _child(space, {"verb": "checksums"})
        place = ON_S3 if wanted.s3 else ON_DISK
        changed = shapes.share_changed(space)
        return Results(shapes.size_of(wanted.llama), wanted.rounds, place, changed, sums, _machine(), rows)


def _measure(row: Row, wanted: Wanted, space: Path, number: int) -> None:
    way = WAYS[row.way]
    home = space / "run"
    home.mkdir()
    place = _place(way, wanted, home, number)
    runs = 1 if way.slow else RUNS_ON_S3 if wanted.s3 else RUNS
    asked = {"way": row.way, "place": place, "runs": runs}
    saved = _child(space, asked | {"verb": "save"})
    loads = [_child(space, asked | {"verb": "load", "cold": cold})
             for cold in ((False, True) if wanted.cold and not wanted.s3 else (False,)) if way.loads]  # fmt: skip
    _emptied(way, wanted, place, home)
    row.save += saved["seconds"]
    row.bytes = saved["bytes"]
    row.save_peak = _larger(row.save_peak, saved["peak_bytes"])
    for found, kept in zip(loads, (row.load, row.load_cold), strict=False):
        kept.extend(found["seconds"])
    if loads:
        row.load_peak = _larger(row.load_peak, loads[0]["peak_bytes"])


def _place(way: Way, wanted: Wanted, home: Path, number: int) -> str:
    if not way.stored:
        return str(home / "files")
    if wanted.s3:
        return f"{wanted.s3.rstrip('/')}/{os.getpid()}-{number}-{way.title.replace(' ', '-').replace(',', '')}"
    return f"shardflow://file{home.resolve()}/store"


def _emptied(way: Way, wanted: Wanted, place: str, home: Path) -> None:
    if way.stored and wanted.s3:
        removed(way, place)
    shutil.rmtree(home)


def _child(space: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Run a measurement to its end."""
    argv = [sys.executable, "-m", "shardflow.flavor.measuring.one", json.dumps({"states": str(space), **asked})]
    state = {"SHARDFLOW_STATE": str(space / "state"), "SHARDFLOW_CACHE": str(space / "cache")}
    done = subprocess.run(argv, env=os.environ | state, capture_output=True, text=True, check=False)  # noqa: S603  # this program itself
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise MeasuringFailed(f"{asked.get('way', 'checksums')} could not be measured: {last}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def _workspace(wanted: Wanted) -> Iterator[Path]:
    needed = 6 * shapes.size_of(wanted.llama)
    where = wanted.directory or Path(tempfile.gettempdir())
    free = shutil.disk_usage(where).free
    if free < needed:
        raise MeasuringFailed(
            f"this needs {needed / 1e9:.0f} GB of disk, and {where} has {free / 1e9:.0f}",
            remedy="name another place with --directory, or measure less with --gib",
        )
    with tempfile.TemporaryDirectory(prefix="shardflow-bench-", dir=where) as made:
        yield Path(made)


def _larger(one: int | None, other: int | None) -> int | None:
    return other if one is None else max(one, other or 0)


def _machine() -> dict[str, str | int | float]:
    """Enough to judge the figures by, nothing that names the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    about: dict[str, str | int | float] = {"cores": cores, "memory_gib": round(memory / (1 << 30), 1)}
    about |= {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
    return about | {name: metadata.version(name) for name in LIBRARIES if _installed(name)}


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
