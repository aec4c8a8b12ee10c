"""What `shardflow bench checkpoint` measures, on the disk, and on S3 behind a link of 1 GB/s.

    python benchmarks/checkpoints/run.py [--gib 1 4] [--places local s3] [--ways planes raw] [--link 1]

The link carries so much in each direction, whatever the number of connections. On a machine of two cores the server
and the client are slower than that: `--link 0.25` shows what a link does that is slower than they are.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import rows

from harness import options, servers
from harness.capped import capped
from harness.figures import GIB, Report
from harness.places import S3Place, workspace
from shardflow.flavor.measuring import chart, course, report, shapes
from shardflow.flavor.measuring.ways import PEER, WAYS

NAME = "checkpoints"
ON_S3 = (PEER, "planes", "raw")


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--gib", type=float, nargs="+", help="sizes of the state (default: 1 4)")
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), help="only these, and torch")
    parser.add_argument("--rounds", type=int, help="measured rounds (default: 3)")
    parser.add_argument("--link", type=float, default=1.0, help="GB/s of the link to S3 (default: %(default)s)")
    arguments = parser.parse_args()
    lengths = [int(gib * GIB) for gib in arguments.gib or ([0.01] if arguments.small else [1, 4])]
    arguments.rounds = arguments.rounds or (1 if arguments.small else 3)
    settings = {"bytes": lengths, "rounds": arguments.rounds, "link_gb_s": arguments.link}
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    found = Report(NAME, "Checkpoints in every format, verified", settings, judged=not arguments.small)
    for length in lengths:
        for place in arguments.places:
            results = measured(place, length, arguments)
            print(report.markdown(results))
            chart.draw(results, arguments.json.with_name(f"{arguments.json.stem}-{length >> 20}MiB-{place}"))
            for figure in rows.figures(results, arguments.link):
                found.add(figure)
    found.show()
    found.write(arguments.json)


def wanted(name: str, only: list[str] | None) -> bool:
    return only is None or name in only or name == PEER


def measured(place: str, length: int, arguments: Namespace) -> course.Results:
    ways = [name for name in (WAYS if place == "local" else ON_S3) if wanted(name, arguments.ways)]
    with url_of(place, arguments) as s3:
        llama = shapes.of_bytes(length)
        return course.run(
            course.Wanted(llama, ways, arguments.rounds, s3, place == "local", arguments.directory), print
        )


@contextmanager
def url_of(place: str, arguments: Namespace) -> Iterator[str | None]:
    """Where stores go: nothing for the disk, or a server behind the slow link."""
    if place == "local":
        yield None
        return
    kind = servers.choice(arguments.server, small=arguments.small)
    with (
        workspace(GIB, arguments.directory) as space,
        servers.running(kind, space.path("server")) as server,
        capped(server.direct.endpoint.split("/")[2], arguments.link * 1e9) as address,
    ):
        there = S3Place(space, server.seen_at(address))
        os.environ.update(there.env)
        yield f"shardflow://s3/{there.bucket}/bench"


if __name__ == "__main__":
    main()
