"""Upload and download over a link of 50 ms on which each connection gets only so many bytes a second.

The link is the tests' fault proxy in front of an S3 server. Beside Shardflow stand one connection at its best (a single
PUT or GET request for the whole file) and boto3's managed transfer with its defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import machine, material, options, servers
from harness.child import Outcome, perform
from harness.figures import GIB, MIB, Figure, Report, Spread, at_least, rate, ratios, size
from harness.places import S3Place, settle, workspace
from harness.running import alternated

NAME = "link"
ROUND_TRIP = 0.05
Trip = dict[str, Outcome]


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--mib", type=int, help="size of the file (default: 256)")
    parser.add_argument("--pairs", type=int, help="measured rounds (default: 3)")
    parser.add_argument("--cap", type=float, default=10, help="MB/s of one connection (default: %(default)s)")
    arguments = parser.parse_args()
    length = (arguments.mib or (4 if arguments.small else 256)) * MIB
    pairs = arguments.pairs or (1 if arguments.small else 3)
    kind = servers.choice(arguments.server, small=arguments.small)
    settings = {"bytes": length, "pairs": pairs, "server": kind, "round_trip": ROUND_TRIP, "mb_s": arguments.cap}
    with (
        workspace(6 * length + GIB, arguments.directory) as space,
        servers.running(kind, space.path("server")) as server,
        servers.proxy_before(server) as proxy,
    ):
        report = Report(
            NAME,
            f"A link of {ROUND_TRIP * 1000:.0f} ms, {arguments.cap:g} MB/s a connection",
            settings,
            judged=not arguments.small,
        )
        report.about.update(machine.server_version(kind))
        place = S3Place(space, server.behind(proxy))
        source = material.random_file(space.path("source"), length)
        rivals = courses(place, source, space.path("restored"))
        servers.slow(proxy, ROUND_TRIP, arguments.cap * 1e6)
        trips = alternated(rivals, pairs, warm_up=0)  # a link this slow has nothing to warm up
        for verb in ("put", "get"):
            report.add(compared(verb, length, trips))
    report.show()
    report.write(arguments.json)


def courses(place: S3Place, source: Path, target: Path) -> dict[str, Callable[[int], Trip]]:
    """The way there and back for each rival."""
    wanted = material.digest(source)

    def there_and_back(task: str, back: str, **where: Any) -> Trip:
        sent = perform(task, place.env, source=str(source), **where)
        settle()
        fetched = perform(back, place.env, target=str(target), **where)
        material.same(material.digest(target), wanted, "a file over the link")
        target.unlink()
        place.clear()
        return {"put": sent, "get": fetched}

    def with_shardflow(_: int) -> Trip:
        return there_and_back("put", "get", url=place.new_store() + "/file")

    def with_one_connection(number: int) -> Trip:
        return there_and_back("single_put", "single_get", bucket=place.bucket, key=f"single/{number}")

    def with_boto3(number: int) -> Trip:
        return there_and_back("boto_put", "boto_get", bucket=place.bucket, key=f"boto3/{number}")

    return {"shardflow": with_shardflow, "one connection": with_one_connection, "boto3": with_boto3}


def compared(verb: str, length: int, trips: dict[str, list[Trip]]) -> Figure:
    """One direction: the rivals' times, and how many times one connection's speed ours is."""
    times = {name: [trip[verb].seconds for trip in found] for name, found in trips.items()}
    spreads = {name: Spread.of(taken) for name, taken in times.items()}
    ours, single, managed = spreads["shardflow"], spreads["one connection"], spreads["boto3"]
    faster = ratios(times["one connection"], times["shardflow"])
    return Figure(
        f"{verb} {size(length)}",
        f"{ours.seconds()}, {rate(length, ours.median)}; {faster.median:.1f} times one connection's speed",
        f"one connection: {single.seconds()}, {rate(length, single.median)}; boto3: {managed.seconds()}",
        at_least(faster.median, 4.0, "4 times one connection"),
        {
            "speed_over_one_connection": faster.as_dict(),
            "speed_over_boto3": ratios(times["boto3"], times["shardflow"]).as_dict(),
            "seconds": {name: spread.as_dict() for name, spread in spreads.items()},
        },
    )


if __name__ == "__main__":
    main()
