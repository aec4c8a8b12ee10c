"""What `shardflow bench checkpoint` measures, on the disk, and on S3 behind a link of 1 GB/s.

    python benchmarks/checkpoints/run.py [--gib 1 4] [--places local s3] [--ways planes raw] [--link 1]

The link carries so much in each direction, whatever the number of connections. On a machine of two cores the server
and the client are slower than that: `--link 0.25` shows what a link does that is slower than they are.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import options, servers
from harness.capped import capped
from harness.figures import GIB
from harness.places import S3Place, workspace
from shardflow.flavor.measuring import chart, course, report, shapes
from shardflow.flavor.measuring.ways import PEER, WAYS

NAME = "checkpoints"
ON_S3 = (PEER, "planes", "raw")
FASTER = 1.35  # planes beside raw, where bytes are what takes the time


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--gib", type=float, nargs="+", help="sizes of the state (default: 1 4)")
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), help="only these, and torch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--link", type=float, default=1.0, help="GB/s of the link to S3 (default: %(default)s)")
    arguments = parser.parse_args()
    lengths = [int(gib * GIB) for gib in arguments.gib or ([0.01] if arguments.small else [1, 4])]
    found = []
    for length in lengths:
        for place in arguments.places:
            ways = [name for name in (WAYS if place == "local" else ON_S3) if wanted(name, arguments.ways)]
            with url_of(place, arguments) as s3:
                asked = course.Wanted(
                    shapes.of_bytes(length), ways, arguments.rounds, s3, place == "local", arguments.directory
                )
                results = course.run(asked, print)
            print(report.markdown(results))
            if place == "s3":
                print(compared(results, arguments.link))
            found.append(results)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps([results.as_dict() for results in found], indent=2) + "\n")
    chart.draw(found[0], arguments.json.with_suffix(""))


def wanted(name: str, only: list[str] | None) -> bool:
    return only is None or name in only or name == PEER


@contextmanager
def url_of(place: str, arguments: object) -> Iterator[str | None]:
    """Where stores go: nothing for the disk, or a server behind the slow link."""
    if place == "local":
        yield None
        return
    kind = servers.choice(arguments.server, small=arguments.small)  # type: ignore[attr-defined]
    with (
        workspace(GIB, arguments.directory) as space,  # type: ignore[attr-defined]
        servers.running(kind, space.path("server")) as server,
        capped(server.direct.endpoint.split("/")[2], arguments.link * 1e9) as address,  # type: ignore[attr-defined]
    ):
        there = S3Place(space, server.seen_at(address))
        os.environ.update(there.env)
        yield f"shardflow://s3/{there.bucket}/bench"


def compared(results: course.Results, link: float) -> str:
    """Fewer bytes over the same link of so many GB/s."""
    lines = []
    for what in ("save", "load"):
        planes, raw = (results.rows[name].median(what) if name in results.rows else None for name in ("planes", "raw"))
        if planes and raw:
            verdict = "met" if raw / planes >= FASTER else "missed"
            ratio = f"planes are {raw / planes:.2f} times as fast as raw"
            lines.append(f"{what} over {link:g} GB/s: {ratio}; at least {FASTER}: {verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
