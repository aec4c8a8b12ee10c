"""`kill -9` during push and pull, at random moments: what the next one has to do again."""

from __future__ import annotations

import random

from desk import Desk, Kind

from harness import material
from harness.figures import MIB, Figure, at_most, size

PACK = 64 * MIB
WORKERS = 4  # packs that one push has in hand


def measured(desk: Desk, kind: Kind, length: int, kills: int, seed: int) -> Figure:
    """Each kill on a remote of its own; the sum of what both runs stored is what was sent."""
    file = desk.root / "large.bin"
    desk.without("large.bin", "large.bin.dvc", "many", "many.dvc")
    material.random_file(file, length, 77)
    digest = material.digest(file)
    desk.dvc("add", "large.bin")
    remote, _ = kind.add_to(desk)
    whole = desk.dvc("push", "-r", remote)
    desk.without("large.bin")
    pulled = desk.dvc("pull", "-r", remote)
    moments, again, hit = random.Random(seed), [], 0
    for number in range(kills):
        remote, url = kind.add_to(desk)
        at = (number + moments.random()) / kills
        hit += desk.killed(at * whole, "push", "-r", remote)
        desk.dvc("push", "-r", remote)
        again.append(max(kind.held(url) - length, 0))
        desk.without("large.bin")
        hit += desk.killed(at * pulled, "pull", "-r", remote)
        desk.dvc("pull", "-r", remote)
        material.same(material.digest(file), digest, "a file pulled after a kill")
    return Figure(
        f"sent again after kill -9, worst of {kills} pushes and pulls",
        f"{size(max(again))}; {hit} of {2 * kills} were hit at work, all next ones finished",
        "",
        at_most(max(again), WORKERS * PACK, "one pack a worker"),
        {"sent_again": again, "hit": hit},
    )
