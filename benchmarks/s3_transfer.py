"""Put and get of incompressible data over a loopback S3 server, beside boto3's managed transfer with its defaults.

Client and server share the machine, so the client's own work (hashing, encoding, verifying) is paid for in time that
the server lacks. Runs alternate, each in its own process on a key of its own, and the bucket is emptied in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import machine, material, options, servers
from harness.child import Outcome, perform
from harness.figures import GIB, MIB, Figure, Report, Spread, at_least, rate, ratios, size
from harness.places import S3Place, Workspace, settle, workspace
from harness.running import alternated

NAME = "s3_transfer"


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One file put and got back."""

    put: Outcome
    get: Outcome


@dataclass(frozen=True, slots=True)
class Course:
    """The way there and back, for either rival."""

    place: S3Place
    space: Workspace
    source: Path
    digest: str

    def with_shardflow(self, _: int) -> RoundTrip:
        url = self.place.new_store() + "/file"
        return self._timed(
            lambda: perform("put", self.place.env, source=str(self.source), url=url),
            lambda target: perform("get", self.place.env, url=url, target=target),
        )

    def with_boto3(self, number: int) -> RoundTrip:
        there = {"bucket": self.place.bucket, "key": f"boto3/{number}"}
        return self._timed(
            lambda: perform("boto_put", self.place.env, source=str(self.source), **there),
            lambda target: perform("boto_get", self.place.env, target=target, **there),
        )

    def _timed(self, put: Callable[[], Outcome], get: Callable[[str], Outcome]) -> RoundTrip:
        target = self.space.path("restored")
        settle()
        sent = put()
        settle()
        done = RoundTrip(sent, get(str(target)))
        material.same(material.digest(target), self.digest, "a file from S3")
        target.unlink()
        self.place.clear()
        return done


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--mib", type=int, help="size of the file (default: 1024)")
    parser.add_argument("--pairs", type=int, help="measured pairs of runs (default: 5)")
    arguments = parser.parse_args()
    length = (arguments.mib or (4 if arguments.small else 1024)) * MIB
    pairs = arguments.pairs or (1 if arguments.small else 5)
    kind = servers.choice(arguments.server, small=arguments.small)
    with (
        workspace(6 * length + GIB, arguments.directory) as space,
        servers.running(kind, space.path("server")) as server,
    ):
        report = Report(
            NAME,
            "Transfer to and from S3 on loopback",
            {"bytes": length, "pairs": pairs, "server": kind},
            judged=not arguments.small,
        )
        report.about.update(machine.server_version(kind))
        place = S3Place(space, server)
        source = material.random_file(space.path("source"), length)
        course = Course(place, space, source, material.digest(source))
        rivals = {"shardflow": course.with_shardflow, "boto3": course.with_boto3}
        trips = alternated(rivals, pairs, warm_up=0 if arguments.small else 1)
        for verb in ("put", "get"):
            report.add(compared(verb, length, trips))
    report.show()
    report.write(arguments.json)


def compared(verb: str, length: int, trips: dict[str, list[RoundTrip]]) -> Figure:
    """One direction: both rivals' times, and the median of each pair's ratio."""
    runs = {name: [getattr(trip, verb) for trip in found] for name, found in trips.items()}
    times = {name: [run.seconds for run in found] for name, found in runs.items()}
    ours, theirs = Spread.of(times["shardflow"]), Spread.of(times["boto3"])
    faster = ratios(times["boto3"], times["shardflow"])
    spent = {name: Spread.of([run.cpu_seconds for run in found]) for name, found in runs.items()}
    peaks = {name: max(run.peak_bytes for run in found) for name, found in runs.items()}
    return Figure(
        f"{verb} {size(length)}",
        f"{ours.seconds()}, {rate(length, ours.median)}; {faster.median:.2f} times boto3's speed",
        f"boto3: {theirs.seconds()}, {rate(length, theirs.median)}",
        at_least(faster.median, 1.0, "boto3's speed"),
        {
            "speed_over_boto3": faster.as_dict(),
            "seconds": {name: Spread.of(taken).as_dict() for name, taken in times.items()},
            "client_cpu_seconds": {name: used.as_dict() for name, used in spent.items()},
            "peak_bytes": peaks,
        },
    )


if __name__ == "__main__":
    main()
