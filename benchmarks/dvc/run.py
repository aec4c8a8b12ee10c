"""A store as DVC's remote beside DVC's own remotes for the same disk and the same bucket, in whole `dvc` commands.

    python benchmarks/dvc/run.py [--parts large many kills] [--places local s3] [--mib 1024] [--files 100000]

Both rivals start the same DVC, which takes about a second: figures are given with it and beyond it. DVC's own settings
hold, so files are copied between its cache and the project. A local store forces every file to the disk, which DVC's
plain directory does not: SHARDFLOW_FSYNC=0 takes that away, and the report says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import kills
import large
import many
from desk import Desk, Kind, local_kinds, s3_kinds

from harness import machine, options, servers
from harness.figures import GIB, MIB, Figure, Report
from harness.places import Workspace, workspace

NAME = "dvc"
LOCAL = "local disk"


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--parts", nargs="+", choices=("large", "many", "kills"), default=["large", "many", "kills"])
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    parser.add_argument("--mib", type=int, help="size of the large file (default: 1024)")
    parser.add_argument("--files", type=int, help="how many small files (default: 100000)")
    parser.add_argument("--rounds", type=int, help="measured rounds (default: 3; 1 of small files on S3)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments at which commands are killed")
    arguments = parser.parse_args()
    small = arguments.small
    sizes = {
        "mib": arguments.mib or (4 if small else 1024),
        "files": arguments.files or (50 if small else 100_000),
        "rounds": arguments.rounds or (1 if small else 3),
        "kills": 1 if small else 10,
    }
    plan = kills.Plan(sizes["mib"] * MIB, sizes["kills"], arguments.seed)
    kind = servers.choice(arguments.server, small=small)
    forced = "no" if os.environ.get("SHARDFLOW_FSYNC") == "0" else "yes"
    report = Report(NAME, "DVC's remotes", {**sizes, "server": kind, "forced to the disk": forced}, judged=not small)
    with workspace(8 * sizes["mib"] * MIB + GIB, arguments.directory) as space:
        if "local" in arguments.places:
            desk = Desk.made(space.path("local") / "project", {})
            measure(report, desk, local_kinds(space.path("local")), LOCAL, sizes, arguments.parts)
            if "kills" in arguments.parts:
                add_all(report, kills.on_disk(space, plan))
        if "s3" in arguments.places:
            on_s3(report, space, kind, sizes, arguments.parts, plan)
    report.show()
    report.write(arguments.json)


def on_s3(
    report: Report, space: Workspace, kind: str, sizes: dict[str, int], parts: list[str], plan: kills.Plan
) -> None:
    """All parts against one server."""
    with servers.running(kind, space.path("server")) as server:
        report.about.update(machine.server_version(kind))
        desk = Desk.made(space.path("s3") / "project", {"AWS_EC2_METADATA_DISABLED": "true"})
        measure(report, desk, s3_kinds(server), f"S3 ({server.name})", sizes, parts)
        if "kills" in parts:
            add_all(report, kills.on_s3(space, server, plan))


def measure(report: Report, desk: Desk, kinds: list[Kind], place: str, sizes: dict[str, int], parts: list[str]) -> None:
    """The parts that were asked for beside DVC's own remotes, at one place."""
    print(place, flush=True)
    length = sizes["mib"] * MIB
    rounds = sizes["rounds"] if place == LOCAL else 1  # a request for each of 100000 files takes minutes
    if "large" in parts:
        add_all(report, large.figures(large.measured(desk, kinds, length, sizes["rounds"]), length))
    if "many" in parts:
        add_all(report, many.figures(many.measured(desk, kinds, sizes["files"], rounds), sizes["files"], place))


def add_all(report: Report, figures: Iterable[Figure]) -> None:
    for figure in figures:
        report.add(figure)


if __name__ == "__main__":
    main()
