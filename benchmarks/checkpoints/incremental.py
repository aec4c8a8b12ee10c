"""Checkpoints of a training, 10 steps apart, each stored as a delta in the background, beside torch.save.

    python benchmarks/checkpoints/incremental.py [--gib 1] [--ways adapter bfloat16] [--rounds 3]

Each way to train is a process of its own, in which the two take turns. What comes back is compared bit for bit.
torch.save and torch.load go to and from a page cache that has room; neither verifies. The first step, which has none
before it, and the second are not among the steps that are measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import trained

from harness import machine, options
from harness.child import finished
from harness.figures import GIB, Figure, Goal, Report, Spread, at_most, ratios, size
from harness.places import Workspace, settle, workspace

NAME = "incremental"
HERE = Path(__file__).parent
SAVE, LOAD, SIZE, BLOCKED = 0.5, 1.2, 0.05, 0.15  # of what torch takes


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    parser.add_argument("--gib", type=float, help="size of the weights (default: 1)")
    parser.add_argument("--ways", nargs="+", choices=trained.WAYS, default=list(trained.WAYS))
    parser.add_argument("--rounds", type=int, help="measured steps (default: 3)")
    arguments = parser.parse_args()
    length = int((arguments.gib or (0.01 if arguments.small else 1)) * GIB)
    rounds = arguments.rounds or (1 if arguments.small else 3)
    settings = {"bytes": length, "rounds": rounds, "rate": trained.RATE}
    report = Report(NAME, "Checkpoints of a training, 10 steps apart", settings, judged=not arguments.small)
    report.about.update(machine.versions(("torch",)))
    for way in arguments.ways:
        with workspace(6 * length + GIB // 8, arguments.directory) as space:
            settle()
            compare(report, way, run(space, way, length, rounds))
    report.show()
    report.write(arguments.json)


def run(space: Workspace, way: str, length: int, rounds: int) -> dict[str, Any]:
    asked = {"way": way, "bytes": length, "rounds": rounds, "directory": str(space.directory)}
    argv = [sys.executable, str(HERE / "stepping.py"), json.dumps(asked)]
    answer: dict[str, Any] = json.loads(finished(argv, space.env).output.splitlines()[-1])
    return answer


def compare(report: Report, way: str, found: dict[str, Any]) -> None:
    first, steps, loads = found["saves"][0], found["saves"][2:], found["loads"]
    what = f"{way}, {size(first['size'])}"
    report.add(
        Figure(f"{what}: first save", f"{first['ours']:.2f} s, {first['sent'] / first['size']:.3f} of the bytes")
    )
    report.add(_beside(f"{what}: save, 10 steps on", steps, "ours", SAVE))
    report.add(_beside(f"{what}: of it, the training waits", steps, "blocked", BLOCKED))
    report.add(_beside(f"{what}: load", loads, "ours", LOAD))
    report.add(_beside(f"{what}: load into tensors that are there", loads, "into", LOAD))
    share = Spread.of([step["sent"] / step["size"] for step in steps])
    text = f"{share.median:.4f} of the bytes ({share.low:.4f} to {share.high:.4f})"
    report.add(
        Figure(f"{what}: stored", text, "1", at_most(share.median, SIZE, f"{SIZE:g}"), {"share": share.as_dict()})
    )


def _beside(what: str, each: list[dict[str, float]], ours: str, limit: float) -> Figure:
    times, peer = Spread.of([one[ours] for one in each]), Spread.of([one["torch"] for one in each])
    ratio = ratios(times.values, peer.values)
    goal: Goal = at_most(ratio.median, limit, f"{limit:g} times torch")
    raw = {"seconds": times.as_dict(), "torch": peer.as_dict(), "ratio": ratio.as_dict()}
    return Figure(what, f"{times.seconds()}; {ratio.median:.2f} of torch's", f"torch: {peer.seconds()}", goal, raw)


if __name__ == "__main__":
    main()
