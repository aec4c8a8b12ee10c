"""Many small files in one directory: pushed, and asked about with `dvc status -c`."""

from __future__ import annotations

from collections.abc import Sequence

from desk import Desk, Kind

from harness import material
from harness.figures import KIB, Figure, Spread, at_most
from harness.places import settle

SMALLEST, LARGEST = 100, 4 * KIB


def measured(desk: Desk, kinds: Sequence[Kind], files: int) -> dict[str, dict[str, float]]:
    """Seconds of every kind for each command; the directory is the same for all."""
    material.small_files(desk.root / "many", files, SMALLEST, LARGEST)
    desk.dvc("add", "many")
    taken: dict[str, dict[str, float]] = {}
    for kind in kinds:
        remote, _ = kind.add_to(desk)
        settle()  # or one rival waits for what the other left to write
        push = desk.dvc("push", "-r", remote)
        taken[kind.name] = {"push": push, "status": desk.dvc("status", "-c", "-r", remote)}
    return taken


def figures(taken: dict[str, dict[str, float]], files: int, place: str) -> list[Figure]:
    """Ours beside theirs."""
    (ours, theirs), (_, peer) = taken.values(), taken
    return [
        Figure(
            f"{command} of {files} small files, {place}",
            Spread.of([ours[command]]).seconds(),
            f"{peer}: {Spread.of([theirs[command]]).seconds()}",
            at_most(ours[command], 1.5 * theirs[command], "1.5 times its time"),
            {"ours": ours[command], "theirs": theirs[command]},
        )
        for command in ("push", "status")
    ]
