"""One training, whose steps are saved by `torch.save` and by the checkpointer in turns, and loaded by both.

python benchmarks/checkpoints/stepping.py PARAMETERS     answers with one line of JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import trained

from shardflow.flavor.checkpointing import AsyncCheckpointer

APART = 10  # steps of the optimizer from one checkpoint to the next
FILE = "checkpoint.pt"


def main() -> None:
    asked = json.loads(sys.argv[1])
    directory = Path(asked["directory"])
    warm_up(directory / "tiny")
    training = trained.WAYS[asked["way"]](asked["bytes"])
    training.step(APART)  # the first steps of AdamW are larger than those that follow
    taken: list[dict[str, float]] = []
    with AsyncCheckpointer(str(directory / "run")) as checkpoints:
        for step in range(asked["rounds"] + 2):
            taken.append(saved(training, checkpoints, directory / FILE, step))
            training.step(APART)
        del training
        loads = [loaded(checkpoints, directory / FILE, number) for number in range(asked["rounds"])]
    print(json.dumps({"bytes": asked["bytes"], "saves": taken, "loads": loads}))


def warm_up(directory: Path) -> None:
    """Everything once, on little."""
    training = trained.with_master_weights(4 << 20)
    directory.mkdir(parents=True)
    with AsyncCheckpointer(str(directory / "run")) as checkpoints:
        for step in range(2):
            saved(training, checkpoints, directory / FILE, step)
        loaded(checkpoints, directory / FILE, 0)


def saved(training: trained.Training, checkpoints: AsyncCheckpointer, file: Path, step: int) -> dict[str, float]:
    """One step, by each of the two; who begins changes."""
    found: dict[str, float] = {"size": training.size}

    def by_torch() -> None:
        file.unlink(missing_ok=True)
        found["torch"] = seconds(lambda: torch.save(training.state, file))

    def by_us() -> None:
        began = time.perf_counter()
        checkpoints.save(step, training.state)
        found["blocked"] = time.perf_counter() - began
        checkpoints.wait()
        found["ours"] = time.perf_counter() - began

    for work in (by_torch, by_us) if step % 2 else (by_us, by_torch):
        os.sync()
        work()
    found["sent"] = checkpoints.progress.totals.bytes_sent
    return found


def loaded(checkpoints: AsyncCheckpointer, file: Path, number: int) -> dict[str, float]:
    """The last step, by each of the two, and into memory that is there; all have to be the same."""
    kept: dict[str, Any] = {}
    works: dict[str, Callable[[], Any]] = {
        "torch": lambda: kept.__setitem__("torch", torch.load(file, weights_only=True)),
        "ours": lambda: kept.__setitem__("ours", checkpoints.load()),
    }
    found = {name: seconds(works[name]) for name in (works if number % 2 else reversed(works))}
    _require_same(kept["ours"], kept["torch"])
    for tensor in kept["ours"].values():
        tensor.zero_()
    found["into"] = seconds(lambda: checkpoints.load(into=kept["ours"]))
    _require_same(kept["ours"], kept["torch"])
    return found


def seconds(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _require_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    different = [name for name in wanted if not torch.equal(found[name], wanted[name])]
    if different or len(found) != len(wanted):
        raise SystemExit(f"what came back differs: {different[:3]}")


if __name__ == "__main__":
    main()
