"""Checkpoints of a training: what they take in a store beside DVC's own remote, and what saving adds to the loop.

    python benchmarks/dvc/checkpoints.py [--parts stored time] [--mib 200] [--count 20] [--dtypes bfloat16 float32]
                                         [--seconds 20 60]

A language model is really trained. How time is measured is told in `stretches.py`.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import stretches
import torch
from desk import Desk, local_kinds
from stretches import steps
from training import Training

from harness import options
from harness.figures import GIB, MIB, Figure, Report, at_most, size
from harness.places import stored_bytes, workspace
from shardflow.dvc import Checkpoints, load_checkpoint

NAME = "dvc_checkpoints"
RATE = 1e-4
STORED_SHARE = 0.45


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    model_bytes: int
    tokens: int
    count: int
    whole: int  # checkpoints that stock DVC is really given: it keeps each as it is
    between: int
    pairs: int
    seconds: list[float]


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    parser.add_argument("--parts", nargs="+", choices=("stored", "time"), default=["stored", "time"])
    parser.add_argument("--dtypes", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16", "float32"])
    parser.add_argument("--mib", type=int, help="size of the weights (default: 200)")
    parser.add_argument("--count", type=int, help="how many checkpoints are stored (default: 20)")
    parser.add_argument("--between", type=int, default=2, help="steps between two of them (default: 2)")
    parser.add_argument("--pairs", type=int, help="stretches with a checkpoint, and as many without (default: 5)")
    parser.add_argument("--seconds", type=float, nargs="+", help="how long stretches are, at least (default: 20 60)")
    arguments = parser.parse_args()
    small = arguments.small
    plan = Plan(
        (arguments.mib or (1 if small else 200)) * MIB,
        32 if small else 128,
        arguments.count or (3 if small else 20),
        1 if small else 2,
        arguments.between,
        arguments.pairs or (1 if small else 5),
        arguments.seconds or ([0.2] if small else [20, 60]),
    )
    settings = {"MiB": plan.model_bytes // MIB, "count": plan.count, "between": plan.between, "rate": RATE}
    report = Report(NAME, "Checkpoints of a training", settings, judged=not small)
    with workspace(
        plan.model_bytes * 3 * (plan.count + 2 * plan.whole) * 2 // 3 + GIB // 4, arguments.directory
    ) as space:
        for dtype in arguments.dtypes:
            if "stored" in arguments.parts:
                report.add(stored(plan, getattr(torch, dtype), space.path("stored")))
                shutil.rmtree(space.path("stored"))
        if "time" in arguments.parts:
            torch.set_num_threads(1)
            training = Training(plan.model_bytes, getattr(torch, arguments.dtypes[0]), RATE, plan.tokens)
            for figure in stretches.figures(training, plan.seconds, plan.pairs, space.path("time")):
                report.add(figure)
    report.show()
    report.write(arguments.json)


def stored(plan: Plan, dtype: torch.dtype, root: Path) -> Figure:
    """All checkpoints of a training in a store, beside the same as files of DVC."""
    training = Training(plan.model_bytes, dtype, RATE, plan.tokens)
    desk = Desk.made(root / "project", {})
    remote, url = local_kinds(root)[1].add_to(desk)
    whole = 0
    with Checkpoints(root / "checkpoint.json", url=str(root / "store")) as checkpoints:
        for number in range(plan.count):
            steps(training, plan.between)
            checkpoints.save(number, training.state())
            if number < plan.whole:
                torch.save(training.state(), desk.root / "checkpoint.pt")
                desk.dvc("add", "checkpoint.pt")
                desk.dvc("push", "-r", remote)
                whole = stored_bytes(Path(url)) // (number + 1)
    came_back(training, root / "checkpoint.json")
    ours, theirs = stored_bytes(root / "store"), whole * plan.count
    return Figure(
        f"{plan.count} checkpoints of {size(training.model_bytes)} of {name_of(dtype)} weights, with optimizer state",
        f"{size(ours)}, {ours / theirs:.2f} of stock",
        f"stock DVC: {size(theirs)}",
        at_most(ours / theirs, STORED_SHARE, f"{STORED_SHARE} of stock"),
        {"ours": ours, "theirs": theirs},
    )


def came_back(training: Training, pointer: Path) -> None:
    """The last checkpoint is what the training ended with."""
    loaded = load_checkpoint(pointer)["model"]
    if not all(torch.equal(weight, loaded[name]) for name, weight in training.model.state_dict().items()):
        raise SystemExit("the last checkpoint is not what was saved")


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    main()
