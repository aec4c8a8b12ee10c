"""`kill -9` at random moments of a put and of a get, then the same command again: what is done, sent and fetched twice.

The command line is what is killed, at moments spread at random over the time that it takes undisturbed. On S3 a proxy
counts the bytes that cross; on the local disk the files that a killed put leaves behind, finished or not, are what it
had sent. Everything is compared with the original afterwards.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from harness import machine, material, options, servers
from harness.arrived import chunks_in_place
from harness.child import SHARDFLOW, finished, killed_after
from harness.figures import GIB, MIB, Figure, Goal, Report, Spread, size
from harness.places import LocalPlace, S3Place, workspace
from harness.wire import DiskTraffic, ProxyTraffic, Traffic
from shardflow.store.config import Settings
from shardflow.store.sending import MAX_PACKS_IN_MEMORY

NAME = "resume"
WORKERS = MAX_PACKS_IN_MEMORY - 1  # threads that send packs
QUIET_SECONDS = 0.5  # what a killed client had handed to the kernel still arrives


@dataclass(frozen=True, slots=True)
class Killed:
    """One command killed and run again."""

    fraction: float  # of the time that it takes undisturbed
    finished_bytes: int  # when it was killed
    repeated_bytes: int  # of those, done again
    bytes_again: int  # moved in both runs together, beyond what one undisturbed run moves


@dataclass(frozen=True, slots=True)
class Trial:
    """One file on its way to and from one place."""

    traffic: Traffic
    source: Path
    target: Path
    settings: Settings
    seed: int
    undisturbed: int  # runs that nothing interrupts; the last one counts

    def puts(self, count: int) -> list[Killed]:
        whole, seconds = self._undisturbed_put()
        return [self._killed_put(fraction, seconds, whole) for fraction in moments(count, self.seed)]

    def gets(self, count: int) -> list[Killed]:
        url = self._new_url()
        self._put(url)
        whole, seconds = self._undisturbed_get(url)
        killed = [self._killed_get(url, fraction, seconds, whole) for fraction in moments(count, self.seed + 1)]
        self.traffic.place.clear()
        return killed

    def _undisturbed_put(self) -> tuple[int, float]:
        """Bytes and seconds of a run that nothing interrupts."""
        for _ in range(self.undisturbed):
            url = self._new_url()
            self.traffic.reset()
            began = time.perf_counter()
            result = self._put(url)
            seconds = time.perf_counter() - began
            whole = self.traffic.sent([result])
            self.traffic.place.clear()
        return whole, seconds

    def _undisturbed_get(self, url: str) -> tuple[int, float]:
        for _ in range(self.undisturbed):
            self.traffic.reset()
            began = time.perf_counter()
            result = self._get(url)
            seconds = time.perf_counter() - began
            whole = self.traffic.received([result])
            self._remove_target()
        return whole, seconds

    def _killed_put(self, fraction: float, seconds: float, whole: int) -> Killed:
        url = self._new_url()
        self.traffic.reset()
        killed_after(fraction * seconds, self._put_command(url), self.traffic.place.env)
        time.sleep(QUIET_SECONDS)
        self.traffic.interrupted()
        done = self.traffic.finished_objects(url)
        result = self._put(url)
        again = self.traffic.written_again(url, done)
        sent = self.traffic.sent([result])
        self._check(url)
        self.traffic.place.clear()
        return Killed(fraction, sum(done.values()), again, max(0, sent - whole))

    def _killed_get(self, url: str, fraction: float, seconds: float, whole: int) -> Killed:
        self.traffic.reset()
        killed_after(fraction * seconds, self._get_command(url), self.traffic.place.env)
        self.traffic.interrupted()
        done = chunks_in_place(self.traffic.manifest(url), self.source, self.target)
        result = self._get(url)
        repeated = max(0, result["bytes_received"] - (self.source.stat().st_size - done))
        received = self.traffic.received([result])
        material.same(material.digest(self.target), material.digest(self.source), "a file fetched in two runs")
        self._remove_target()
        return Killed(fraction, done, repeated, max(repeated, received - whole))

    def _new_url(self) -> str:
        return self.traffic.place.new_store(self.settings) + "/file"

    def _put_command(self, url: str) -> Sequence[str]:
        return [*SHARDFLOW, "put", str(self.source), url, "--json"]

    def _get_command(self, url: str) -> Sequence[str]:
        return [*SHARDFLOW, "get", url, str(self.target), "--json"]

    def _put(self, url: str) -> dict[str, int]:
        result: dict[str, int] = json.loads(finished(self._put_command(url), self.traffic.place.env).output)
        return result

    def _get(self, url: str) -> dict[str, int]:
        result: dict[str, int] = json.loads(finished(self._get_command(url), self.traffic.place.env).output)
        return result

    def _check(self, url: str) -> None:
        self._get(url)
        material.same(material.digest(self.target), material.digest(self.source), "a file put in two runs")
        self._remove_target()

    def _remove_target(self) -> None:
        for path in self.target.parent.iterdir():
            path.unlink()


def moments(count: int, seed: int) -> list[float]:
    """Random fractions, one from each of `count` equal parts of the whole."""
    rng = random.Random(seed)
    return [(number + rng.random()) / count for number in range(count)]


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--mib", type=int, help="size of the file (default: 512)")
    parser.add_argument("--kills", type=int, help="of each command in each place (default: 20)")
    parser.add_argument("--seed", type=int, default=1, help="of the random moments (default: %(default)s)")
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    arguments = parser.parse_args()
    length = (arguments.mib or (12 if arguments.small else 512)) * MIB
    kills = arguments.kills or (1 if arguments.small else 20)
    kind = servers.choice(arguments.server, small=arguments.small)
    pack_bytes = 4 * MIB if arguments.small else Settings().pack_bytes
    settings = {"bytes": length, "kills": kills, "seed": arguments.seed, "server": kind, "pack_bytes": pack_bytes}
    report = Report(NAME, f"kill -9 at {kills} random moments", settings, judged=not arguments.small)
    with workspace(8 * length + GIB, arguments.directory) as space, ExitStack() as running:
        source = material.random_file(space.path("source"), length)
        ways: list[Traffic] = []
        if "local" in arguments.places:
            ways.append(DiskTraffic(LocalPlace(space)))
        if "s3" in arguments.places:
            server = running.enter_context(servers.running(kind, space.path("server")))
            proxy = running.enter_context(servers.proxy_before(server))
            report.about.update(machine.server_version(kind))
            ways.append(ProxyTraffic(S3Place(space, server.behind(proxy)), proxy))
        space.path("targets").mkdir()
        packs, undisturbed = Settings(pack_bytes=pack_bytes), 1 if arguments.small else 2
        for way in ways:
            trial = Trial(way, source, space.path("targets") / "file", packs, arguments.seed, undisturbed)
            report.add(summed("put", "sent", way.place.name, trial.puts(kills), pack_bytes))
            report.add(summed("get", "fetched", way.place.name, trial.gets(kills), pack_bytes))
    report.show()
    report.write(arguments.json)


def summed(verb: str, moved: str, where: str, killed: list[Killed], pack_bytes: int) -> Figure:
    """The worst of all kills decides; the median says what is usual."""
    again = Spread.of([one.bytes_again for one in killed])
    repeated = Spread.of([one.repeated_bytes for one in killed])
    allowed = WORKERS * pack_bytes
    goal = Goal(
        f"at most {size(allowed)} {moved} again, no finished work repeated",
        met=again.high <= allowed and repeated.high == 0,
    )
    return Figure(
        f"{verb} killed {len(killed)} times, {where}",
        f"{moved} again: at most {size(again.high)}, median {size(again.median)}; "
        f"finished and repeated: at most {size(repeated.high)}",
        f"finished when killed: median {size(Spread.of([one.finished_bytes for one in killed]).median)}",
        goal,
        {
            "bytes_again": again.as_dict(),
            "finished_bytes_repeated": repeated.as_dict(),
            "kills": [[one.fraction, one.finished_bytes, one.repeated_bytes, one.bytes_again] for one in killed],
        },
    )


if __name__ == "__main__":
    main()
