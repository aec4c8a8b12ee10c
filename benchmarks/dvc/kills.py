"""`kill -9` of push and pull at random points of their way: what both runs together move beyond one undisturbed run.

A point is an amount of bytes, not a time, so that each kill hits a command at work however busy the machine is. On S3
a proxy counts what crosses; on the local disk the kernel counts what the processes write, and DVC is told to link its
cache into the project, so that what a pull writes is what it fetched.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from desk import BUCKET, Desk, Kind, s3_kinds
from meters import Crossed, Meter, Written, moved

from harness import material, servers
from harness.figures import Figure, Goal, Spread, size
from harness.places import LocalPlace, S3Place, Workspace
from harness.wire import DiskTraffic, ProxyTraffic, Traffic
from shardflow.store.config import Settings
from shardflow.store.sending import MAX_PACKS_IN_MEMORY

if TYPE_CHECKING:
    from harness.servers import ObjectServer

WORKERS = MAX_PACKS_IN_MEMORY - 1  # threads that send packs
FILE = "killed.bin"


@dataclass(frozen=True, slots=True)
class Plan:
    """How large the file is, and when commands are killed."""

    length: int
    kills: int
    seed: int

    def points(self, salt: int) -> list[float]:
        """Random fractions of the way, one from each equal part of it."""
        moments = random.Random(self.seed + salt)
        return [(number + moments.random()) / self.kills for number in range(self.kills)]


@dataclass(frozen=True, slots=True)
class Killed:
    """One command killed and run again."""

    point: float
    hit: bool  # or it was over before
    again: int  # bytes, beyond what an undisturbed run moves
    finished: int = 0  # bytes of the objects that a push had in the store by then
    repeated: int = 0  # of those, written again


@dataclass(frozen=True, slots=True)
class Trial:
    """One file on its way to and from remotes of one kind."""

    desk: Desk
    kind: Kind
    traffic: Traffic
    out: Meter
    back: Meter

    def pushes(self, plan: Plan) -> list[Killed]:
        remote, _ = self.kind.add_to(self.desk)
        whole = moved(self.desk, self.out, "push", "-r", remote).count
        self._check_counts(whole, plan.length)
        self.traffic.place.clear()
        return [self._killed_push(point, whole) for point in plan.points(0)]

    def pulls(self, plan: Plan, digest: bytes) -> list[Killed]:
        remote, _ = self.kind.add_to(self.desk)
        self.desk.dvc("push", "-r", remote)
        self.desk.without(FILE)
        whole = moved(self.desk, self.back, "pull", "-r", remote).count
        self._check_counts(whole, plan.length)
        killed = [self._killed_pull(remote, point, whole, digest) for point in plan.points(1)]
        self.traffic.place.clear()
        return killed

    def _killed_push(self, point: float, whole: int) -> Killed:
        remote, url = self.kind.add_to(self.desk)
        first = moved(self.desk, self.out, "push", "-r", remote, kill_at=int(point * whole))
        done = self.traffic.finished_objects(url)
        second = moved(self.desk, self.out, "push", "-r", remote)
        repeated = self.traffic.written_again(url, done)
        self.traffic.place.clear()
        again = max(0, first.count + second.count - whole)
        return Killed(point, first.killed, again, sum(done.values()), repeated)

    def _killed_pull(self, remote: str, point: float, whole: int, digest: bytes) -> Killed:
        self.desk.without(FILE)
        first = moved(self.desk, self.back, "pull", "-r", remote, kill_at=int(point * whole))
        second = moved(self.desk, self.back, "pull", "-r", remote)
        material.same(material.digest(self.desk.root / FILE), digest, "a file pulled after a kill")
        return Killed(point, first.killed, max(0, first.count + second.count - whole))

    def _check_counts(self, whole: int, length: int) -> None:
        if whole < length:
            raise SystemExit(
                f"only {size(whole)} of {size(length)} were counted; a file system in memory is no disk: "
                "name another with --directory"
            )


def on_disk(space: Workspace, plan: Plan) -> Iterator[Figure]:
    """Remotes on the local disk."""
    place = LocalPlace(space)
    kind = Kind("killed", lambda number: f"shardflow://file{place.root}/{number}", lambda _: 0)
    desk = Desk.made(space.path("killed"), {})
    yield from measured(Trial(desk, kind, DiskTraffic(place), Written(), Written()), plan)


def on_s3(space: Workspace, server: ObjectServer, plan: Plan) -> Iterator[Figure]:
    """Remotes in a bucket of a server, which is emptied."""
    with servers.proxy_before(server) as proxy:
        seen = server.behind(proxy)
        kind = Kind(
            "killed", lambda number: f"shardflow://s3/{BUCKET}/killed-{number}", lambda _: 0, s3_kinds(seen)[0].options
        )
        traffic = ProxyTraffic(S3Place(space, seen, BUCKET), proxy)
        desk = Desk.made(space.path("killed-s3"), {"AWS_EC2_METADATA_DISABLED": "true"})
        traffic.place.clear()
        out, back = Crossed(lambda: proxy.traffic.sent("PUT")), Crossed(lambda: traffic.received([]))
        yield from measured(Trial(desk, kind, traffic, out, back), plan)


def measured(trial: Trial, plan: Plan) -> Iterator[Figure]:
    """All kills of both commands."""
    file = trial.desk.root / FILE
    material.random_file(file, plan.length, 77)
    digest = material.digest(file)
    trial.desk.dvc("config", "cache.type", "hardlink")
    trial.desk.dvc("add", FILE)
    where = trial.traffic.place.name
    yield summed("push", "sent", where, trial.pushes(plan))
    yield summed("pull", "fetched", where, trial.pulls(plan, digest))
    trial.desk.without(FILE)


def summed(verb: str, done: str, where: str, killed: list[Killed]) -> Figure:
    """The worst of all kills decides."""
    again = Spread.of([one.again for one in killed])
    repeated = max(one.repeated for one in killed)
    allowed = WORKERS * Settings().pack_bytes
    goal = Goal(
        f"at most one pack a worker, {size(allowed)}, {done} again; no finished pack is",
        met=again.high <= allowed and repeated == 0,
    )
    return Figure(
        f"{verb} killed with kill -9 at {len(killed)} points, {where}",
        f"{done} again: at most {size(again.high)}, median {size(again.median)}; "
        f"{sum(one.hit for one in killed)} were hit at work, all next ones finished",
        "",
        goal,
        {
            "bytes_again": again.as_dict(),
            "finished_bytes_repeated": repeated,
            "kills": [[one.point, one.hit, one.again, one.finished, one.repeated] for one in killed],
        },
    )
