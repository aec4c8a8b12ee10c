"""How small and how fast the codecs make a model and its new versions, beside other tools, held against goals.

    python benchmarks/codec/run.py --versions DIR [--model DIR]

README.md beside this file tells what is measured, on what, and beside what.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded: all figures are of one thread
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import deltas
import speeds
import whole
from deltas import IN_PLACE, RAW

import versions
from harness import markdown, options
from harness.figures import Figure, Goal, Report, at_least
from shardflow.dtype import DType

if TYPE_CHECKING:
    from deltas import Case
    from speeds import Speed

    from versions import Model

NAME = "codec"
TURNS = 9
PLANES, DELTA, SPARSE = (1.0, 2.5), (0.4, 0.6), (1.2, 1.7)  # GB/s in and out


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    parser.add_argument("--versions", type=Path, help="directory of versions; filled by train.py if it is empty")
    parser.add_argument("--model", type=Path, help="directory of a sentence model to train, as transformers reads it")
    parser.add_argument("--markdown", type=Path, help="write the table here, too")
    parser.add_argument("--python", default=sys.executable, help="interpreter that has torch and peft, for training")
    arguments = parser.parse_args()
    directory = ready(arguments)
    settings = {"versions": "trained" if directory else "made up", "not_installed": whole.missing()}
    report = Report(NAME, "A model and its new versions, fractions of raw", settings, judged=not arguments.small)
    for name in whole.missing():
        print(f"{name} is not installed, and left out")
    for case in deltas.cases(directory, small=arguments.small):
        report.add(size_figure(case, whole.sizes(case)))
    base = versions.read(directory / "base.safetensors") if directory else versions.made_up()
    after = [versions.read(directory / f"step{n}.safetensors") for n in (190, 200)] if directory else [base, base]
    if not directory:
        after = [versions.trained(base, 1e-4), versions.trained(versions.trained(base, 1e-4), 2e-5, 2e-6)]
    add_speeds(report, base, after, 1 if arguments.small else TURNS)
    report.show()
    report.write(arguments.json)
    if arguments.markdown:
        arguments.markdown.write_text(markdown.page({NAME: report.as_dict()}))


def ready(arguments: argparse.Namespace) -> Path | None:
    """The directory of versions, trained now if there are none yet; None where they have to be made up."""
    directory: Path | None = arguments.versions
    if directory and not (directory / "merged_mixed.safetensors").exists():
        if not arguments.model:
            raise SystemExit(f"{directory} has no versions in it; name a model to train them from with --model")
        trainer = Path(__file__).with_name("train.py")
        subprocess.run([arguments.python, str(trainer), str(arguments.model), str(directory)], check=True)
    return directory


def size_figure(case: Case, peers: dict[str, int]) -> Figure:
    ours = f"{case.ours / case.raw:.5f}"
    if "BitX" in peers:
        ours += f" ({case.ours / peers['BitX']:.3f} x BitX)"
    beside = ", ".join(f"{name} {size / case.raw:.4f}" for name, size in peers.items())
    raw = {"raw": case.raw, "ours": case.ours, "peers": peers, "codecs": case.codecs, "cpu_seconds": case.seconds}
    return Figure(case.name, ours, beside, size_goal(case, {RAW: case.raw, **peers}), raw)


def size_goal(case: Case, sizes: dict[str, int]) -> Goal | None:
    """All limits of a case as one goal; those beside a peer that is not installed cannot be judged."""
    limits = {name: limit for name, limit in case.limits.items() if name in sizes}
    if not limits:
        return None
    words = [f"{limit:g} {'of' if name == RAW else 'x'} {name}" for name, limit in limits.items()]
    return Goal(f"at most {' and '.join(words)}", all(case.ours <= limits[name] * sizes[name] for name in limits))


def add_speeds(report: Report, base: Model, after: list[Model], turns: int) -> None:
    for dtype in (DType.BF16, DType.F32):
        found = speeds.planes(base, dtype, turns)
        add_speed(report, f"planes, {dtype.name}", found["Shardflow"], PLANES, found.get("ZipNN"))
        for name, old in (("200 steps of AdamW", base), ("10 steps", after[0])):
            speed = speeds.deltas(after[1], old, dtype, turns)
            add_speed(report, f"delta, {dtype.name}, {name}", speed, DELTA)
    narrow = versions.in_kind(after[1], DType.BF16)
    speed = speeds.deltas(versions.stepped(narrow, *IN_PLACE), narrow, DType.BF16, turns)
    add_speed(report, "delta, BF16, trained in place, 10 steps", speed, SPARSE)


def add_speed(report: Report, name: str, ours: Speed, goals: tuple[float, float], peer: Speed | None = None) -> None:
    for way, limit, at in (("in", goals[0], "into"), ("out", goals[1], "out")):
        spread, theirs = getattr(ours, at), getattr(peer, at, None)
        goal = at_least(spread.median, limit, f"{limit} GB/s")
        if theirs:
            goal = Goal(f"{goal.text} and ZipNN's", goal.met and spread.median > theirs.median)
        beside = f"ZipNN {theirs.median:.2f} GB/s" if theirs else ""
        raw = {"ours": spread.as_dict()} | ({"ZipNN": theirs.as_dict()} if theirs else {})
        report.add(Figure(f"{name}, {way}", f"{spread.median:.2f} GB/s", beside, goal, raw))


if __name__ == "__main__":
    main()
