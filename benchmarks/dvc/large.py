"""One large file: pushed, pulled to a cold cache, and pushed again with 64 KiB of it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from desk import Desk, Kind

from harness import material
from harness.figures import KIB, MIB, Figure, Goal, Spread, at_least, at_most, ratios, size

CHANGED = 64 * KIB


@dataclass(frozen=True, slots=True)
class Trip:
    """What one kind of remote took."""

    push: float
    pull: float
    push_again: float
    stored_again: int
    nothing: float  # a push with nothing to do: what starting DVC takes


def measured(desk: Desk, kinds: Sequence[Kind], length: int, rounds: int) -> dict[str, list[Trip]]:
    """Every kind in turn, each round with a file of its own."""
    trips: dict[str, list[Trip]] = {kind.name: [] for kind in kinds}
    for number in range(rounds):
        for kind in kinds if number % 2 == 0 else list(reversed(kinds)):
            trips[kind.name].append(trip(desk, kind, length, number))
    return trips


def trip(desk: Desk, kind: Kind, length: int, seed: int) -> Trip:
    file = desk.root / "large.bin"
    desk.without("large.bin", "large.bin.dvc")
    material.random_file(file, length, seed + 1)
    digest = material.digest(file)
    desk.dvc("add", "large.bin")
    remote, url = kind.add_to(desk)
    push = desk.dvc("push", "-r", remote)
    nothing = desk.dvc("push", "-r", remote)
    desk.without("large.bin")
    pull = desk.dvc("pull", "-r", remote)
    material.same(material.digest(file), digest, "a file that was pulled")
    held = kind.held(url)
    change(file, length, seed)
    desk.dvc("add", "large.bin")
    again = desk.dvc("push", "-r", remote)
    return Trip(push, pull, again, kind.held(url) - held, nothing)


def change(file: Path, length: int, seed: int) -> None:
    """Put other bytes into a copy: the file itself is linked to DVC's cache."""
    copy = file.with_suffix(".copy")
    copy.write_bytes(file.read_bytes())
    copy.chmod(0o644)
    material.replace_run(copy, length // 2 + 12345, material.Noise(seed + 999).take(min(CHANGED, length // 8)))
    file.unlink()
    copy.rename(file)


def figures(trips: dict[str, list[Trip]], length: int) -> list[Figure]:
    """Ours beside theirs, pair by pair."""
    (ours, theirs), (_, peer) = trips.values(), trips
    found = [
        _compared("first push", ours, theirs, peer, length, "push", at_least_as_fast),
        _compared("pull to a cold cache, verified", ours, theirs, peer, length, "pull", at_least_as_fast),
        _compared("push with 64 KiB changed", ours, theirs, peer, length, "push_again", five_times),
    ]
    stored = [trip.stored_again for trip in ours]
    beside = f"{peer}: {size(max(trip.stored_again for trip in theirs))}"
    goal = at_most(max(stored), 2 * MIB, "2 MiB more")
    found.append(Figure("stored for 64 KiB changed", size(max(stored)), beside, goal, {"bytes": stored}))
    return found


def at_least_as_fast(faster: float) -> Goal:
    return at_least(faster, 1.0, "its speed")


def five_times(faster: float) -> Goal:
    return at_least(faster, 5.0, "5 times its speed")


def _compared(
    what: str, ours: list[Trip], theirs: list[Trip], peer: str, length: int, name: str, judged: object
) -> Figure:
    mine, other = ([getattr(trip, name) for trip in trips] for trips in (ours, theirs))
    faster = ratios(other, mine)
    starting = [trip.nothing for trip in ours]
    net = ratios(
        [max(seconds - trip.nothing, 0.01) for seconds, trip in zip(other, theirs, strict=True)],
        [max(seconds - trip.nothing, 0.01) for seconds, trip in zip(mine, ours, strict=True)],
    )
    return Figure(
        f"{what}, {size(length)}",
        f"{Spread.of(mine).seconds()}; {faster.median:.2f} times its speed, {net.median:.2f} beyond start-up",
        f"{peer}: {Spread.of(other).seconds()}; starting DVC takes {Spread.of(starting).seconds()}",
        judged(faster.median),  # type: ignore[operator]
        {"ours": mine, "theirs": other, "start": starting, "faster": faster.as_dict(), "net": net.as_dict()},
    )
