"""Many small files in one directory: pushed, and asked about with `dvc status -c`.

Nothing is deleted before the end. For some minutes ext4 passes over each inode of a deleted file whenever it makes a
new one, so whoever comes after a rival that cleaned up takes several times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from desk import Desk, Kind

from harness import material
from harness.figures import KIB, Figure, Spread, at_most, ratios
from harness.places import settle
from harness.running import alternated

SMALLEST, LARGEST = 100, 4 * KIB


@dataclass(frozen=True, slots=True)
class Trip:
    """What one kind of remote took, a new and empty one each time."""

    push: float
    status: float


def measured(desk: Desk, kinds: Sequence[Kind], files: int, rounds: int) -> dict[str, list[Trip]]:
    """Every kind in turn; the directory is the same for all."""
    material.small_files(desk.root / "many", files, SMALLEST, LARGEST)
    desk.dvc("add", "many")
    works = {kind.name: (lambda _, kind=kind: trip(desk, kind)) for kind in kinds}
    return alternated(works, rounds, warm_up=0)


def trip(desk: Desk, kind: Kind) -> Trip:
    remote, _ = kind.add_to(desk)
    settle()  # or one rival waits for what the other left to write
    push = desk.dvc("push", "-r", remote)
    return Trip(push, desk.dvc("status", "-c", "-r", remote))


def figures(trips: dict[str, list[Trip]], files: int, place: str) -> list[Figure]:
    """Ours beside theirs, pair by pair."""
    (ours, theirs), (_, peer) = trips.values(), trips
    found = []
    for command in ("push", "status"):
        mine, other = ([getattr(trip, command) for trip in taken] for taken in (ours, theirs))
        slower = ratios(mine, other)
        found.append(
            Figure(
                f"{command} of {files} small files, {place}",
                f"{Spread.of(mine).seconds()}; {slower.median:.2f} times its time",
                f"{peer}: {Spread.of(other).seconds()}",
                at_most(slower.median, 1.5, "1.5 times its time"),
                {"ours": mine, "theirs": other, "slower": slower.as_dict()},
            )
        )
    return found
