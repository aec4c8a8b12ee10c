"""What saving adds to the loop of a training: in stretches with one checkpoint each, beside the same without.

The training runs on one core, and the others are free for what happens in the background, as those of an accelerator's
host are. Stretches with and without alternate, and one that saves ends when its checkpoint is stored.

What a checkpoint adds is told in two ways, and one every 33 times as long adds 3 %. By stretches it is the difference
within a pair, which the machine's own ups and downs may exceed. By steps it is what the call took, and how much longer
those steps took during which the checkpoint was stored than the median of those after them; what a checkpoint leaves
behind does not show there. Seconds of the processor are those of the whole process but for the thread that trains.

Stock ways stand still for as long as they take: `torch.save` to a file, and `torch.save` with `dvc add` after it, which
is how a DVC project keeps a checkpoint while a stage runs. They are called between two steps of the same training.
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from desk import Desk
from training import Training

from harness.figures import Figure, Spread, at_most
from shardflow.dvc import Checkpoints

ADDED_SHARE = 0.03
WARM_UPS = 2  # checkpoints before those that count: what is loaded, compiled and stored whole once


@dataclass(slots=True)
class Saves:
    """Checkpoints of a training, and what each of them took."""

    training: Training
    checkpoints: Checkpoints
    blocked: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)  # seconds of the processor, but for the training
    added: list[float] = field(default_factory=list)  # by steps

    def stretch(self, count: int) -> None:
        """So many steps, and a checkpoint that begins with them."""
        process, own = _processor_seconds(), time.thread_time()
        self.blocked.append(seconds_of(lambda: self.checkpoints.save(len(self.blocked), self.training.state())))
        with ThreadPoolExecutor(1) as watching:
            stored = watching.submit(self.checkpoints.wait)
            during: list[float] = []
            after: list[float] = []
            for _ in range(count):
                (after if stored.done() else during).append(seconds_of(self.training.step))
            stored.result()
        self.busy.append(_processor_seconds() - process - (time.thread_time() - own))
        if after:
            usual = statistics.median(after)
            self.added.append(self.blocked[-1] + sum(step - usual for step in during))


def figures(training: Training, seconds: list[float], pairs: int, root: Path) -> Iterator[Figure]:
    """Of stretches of about so many seconds each, and of stock ways in the same loop."""
    step = _seconds_of_a_step(training)
    with Checkpoints(root / "checkpoint.json", url=str(root / "store")) as checkpoints:
        saves = Saves(training, checkpoints)
        for _ in range(WARM_UPS):
            saves.stretch(1)
        added: list[float] = []
        for length in seconds:
            count = math.ceil(length / step)
            found = _paired(saves, count, pairs)
            added += [above - below for above, below in found]
            yield _added(found, count)
    yield from _costs(saves, added, _stock(training, root / "stock", pairs))


def _added(found: list[tuple[float, float]], count: int) -> Figure:
    shares = Spread.of([above / below - 1 for above, below in found])
    without = Spread.of([below for _, below in found])
    return Figure(
        f"added by one checkpoint to {count} steps",
        f"{shares.median:.1%} ({shares.low:.1%} to {shares.high:.1%})",
        f"without: {without.seconds()}",
        at_most(shares.median, ADDED_SHARE, f"{ADDED_SHARE:.0%}"),
        {"with": [above for above, _ in found], "without": [below for _, below in found]},
    )


def _costs(saves: Saves, added: list[float], stock: dict[str, Spread]) -> Iterator[Figure]:
    blocked, busy = Spread.of(saves.blocked[WARM_UPS:]), Spread.of(saves.busy[WARM_UPS:])
    still = {name: each.seconds() for name, each in stock.items()}
    apart = {name: _shortest(each) for name, each in stock.items()}
    raw = {name: list(each.values) for name, each in stock.items()}
    yield Figure(
        "the loop stands still for a checkpoint", blocked.seconds(), _beside(still), raw={"s": saves.blocked} | raw
    )
    for way, seconds in (("stretches", added), ("steps", saves.added)):
        if seconds:
            more = Spread.of(seconds)
            yield Figure(f"a checkpoint adds, by {way}", more.seconds(), _beside(still), raw={"s": seconds})
            what = f"shortest time between checkpoints that add {ADDED_SHARE:.0%}, by {way}"
            yield Figure(what, _shortest(more), _beside(apart))
    yield Figure("seconds of the processor beside the loop's", busy.seconds(), raw={"s": saves.busy})


def _beside(texts: dict[str, str]) -> str:
    return "; ".join(f"{name}: {text}" for name, text in texts.items())


def _stock(training: Training, root: Path, rounds: int) -> dict[str, Spread]:
    """How long the loop stands still for stock ways to keep a checkpoint."""
    desk = Desk.made(root / "project", {})
    file = desk.root / "checkpoint.pt"
    written, noted = [], []
    for _ in range(rounds + 1):
        steps(training, 1)
        file.unlink(missing_ok=True)
        os.sync()
        written.append(seconds_of(lambda: torch.save(training.state(), file)))
        noted.append(desk.dvc("add", "checkpoint.pt"))
    both = [save + add for save, add in zip(written, noted, strict=True)]
    return {"torch.save": Spread.of(written[1:]), "with dvc add": Spread.of(both[1:])}


def _shortest(added: Spread) -> str:
    return f"{max(added.median, 0) / ADDED_SHARE:.0f} s"


def _paired(saves: Saves, count: int, pairs: int) -> list[tuple[float, float]]:
    """Stretches with a checkpoint and without, in turns; who begins changes."""

    def with_one() -> float:
        return seconds_of(lambda: saves.stretch(count))

    def without() -> float:
        return seconds_of(lambda: steps(saves.training, count))

    found = []
    for number in range(pairs):
        if number % 2:
            above, below = with_one(), without()
        else:
            below, above = without(), with_one()
        found.append((above, below))
    return found


def _seconds_of_a_step(training: Training) -> float:
    """After the first ones, which are slower."""
    steps(training, 2)
    return statistics.median(seconds_of(lambda: steps(training, 1)) for _ in range(5))


def steps(training: Training, count: int) -> None:
    for _ in range(count):
        training.step()


def seconds_of(act: Callable[[], Any]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _processor_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
