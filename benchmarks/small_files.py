"""A directory of ten thousand small files put and got back: objects written for each file, memory and time.

Sizes are spread evenly over the magnitudes from 100 bytes to 200 KiB. Beside it stand `cp -r` on the local disk, with
and without forcing the data to the disk (Shardflow always does), and boto3 with ten threads on S3.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import machine, material, options, servers
from harness.child import Outcome, perform
from harness.figures import GIB, KIB, MIB, Figure, Report, Spread, at_most, size
from harness.places import LocalPlace, Place, S3Place, Workspace, settle, workspace
from harness.running import alternated

NAME = "small_files"
SMALLEST, LARGEST = 100, 200 * KIB
THREADS = 10
MEMORY = 600 * MIB


@dataclass(frozen=True, slots=True)
class Trip:
    """The directory put and got back, by one of the rivals."""

    put_seconds: float
    get_seconds: float
    put: Outcome | None = None
    get: Outcome | None = None


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--files", type=int, help="how many (default: 10000)")
    parser.add_argument("--pairs", type=int, help="measured rounds (default: 3)")
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    arguments = parser.parse_args()
    count = arguments.files or (60 if arguments.small else 10_000)
    pairs = arguments.pairs or (1 if arguments.small else 3)
    kind = servers.choice(arguments.server, small=arguments.small)
    settings = {"files": count, "pairs": pairs, "server": kind}
    report = Report(NAME, f"{count} small files in one directory", settings, judged=not arguments.small)
    with workspace(4 * GIB, arguments.directory) as space:
        source = space.path("source")
        total = material.small_files(source, count, SMALLEST, LARGEST)
        report.settings["bytes"] = total
        if "local" in arguments.places:
            disk = LocalPlace(space)
            measure(report, disk, local_rivals(disk, source), pairs, count)
        if "s3" in arguments.places:
            with servers.running(kind, space.path("server")) as server:
                report.about.update(machine.server_version(kind))
                place = S3Place(space, server)
                measure(report, place, s3_rivals(place, source), pairs, count)
    report.show()
    report.write(arguments.json)


def local_rivals(place: LocalPlace, source: Path) -> dict[str, Callable[[int], Trip]]:
    space = place.space

    def copied(_: int) -> Trip:
        return Trip(copy_seconds(source, space.path("there")), copy_seconds(source, space.path("back")))

    def copied_and_synced(_: int) -> Trip:
        there = copy_seconds(source, space.path("there"), sync=True)
        return Trip(there, copy_seconds(source, space.path("back"), sync=True))

    return {"shardflow": our_trip(place, space, source), "cp -r": copied, "cp -r, sync": copied_and_synced}


def s3_rivals(place: S3Place, source: Path) -> dict[str, Callable[[int], Trip]]:
    def with_boto3(number: int) -> Trip:
        there: dict[str, Any] = {"bucket": place.bucket, "prefix": f"boto3/{number}", "threads": THREADS}
        target = place.space.path("restored")
        put = perform("boto_put_tree", place.env, source=str(source), **there)
        get = perform("boto_get_tree", place.env, target=str(target), **there)
        shutil.rmtree(target)
        place.clear()
        return Trip(put.seconds, get.seconds, put, get)

    return {"shardflow": our_trip(place, place.space, source), f"boto3, {THREADS} threads": with_boto3}


def our_trip(place: Place, space: Workspace, source: Path) -> Callable[[int], Trip]:
    wanted = material.digests(source)

    def with_shardflow(_: int) -> Trip:
        url, target = place.new_store() + "/files", space.path("restored")
        settle()
        put = perform("put", place.env, source=str(source), url=url)
        settle()
        get = perform("get", place.env, url=url, target=str(target))
        material.same(material.digests(target), wanted, f"the directory from {place.name}")
        shutil.rmtree(target)
        place.clear()
        return Trip(put.seconds, get.seconds, put, get)

    return with_shardflow


def copy_seconds(source: Path, target: Path, *, sync: bool = False) -> float:
    """A plain `cp -r`, and the time until it is on the disk if asked."""
    settle()
    began = time.perf_counter()
    subprocess.run(["cp", "-r", str(source), str(target)], check=True)
    if sync:
        settle()
    seconds = time.perf_counter() - began
    shutil.rmtree(target)
    return seconds


def measure(report: Report, place: Place, rivals: dict[str, Callable[[int], Trip]], pairs: int, count: int) -> None:
    trips = alternated(rivals, pairs, warm_up=0)
    ours = [trip.put for trip in trips["shardflow"] if trip.put is not None]
    written = max(run.result["objects_written"] for run in ours)
    report.add(
        Figure(
            f"objects written, {place.name}",
            f"{written}, {written / count:.2f} a file",
            "one object a file: 1.00",
            at_most(written / count, 2.0, "2 a file"),
            {"objects_written": written, "a_file": written / count},
        )
    )
    for verb in ("put", "get"):
        report.add(compared(verb, place.name, trips))


def compared(verb: str, where: str, trips: dict[str, list[Trip]]) -> Figure:
    """One direction: times of all, and our memory."""
    seconds = {name: Spread.of([getattr(trip, f"{verb}_seconds") for trip in found]) for name, found in trips.items()}
    peaks = {
        name: max((run.peak_bytes for trip in found if (run := getattr(trip, verb)) is not None), default=0)
        for name, found in trips.items()
    }
    others = [f"{name}: {spread.seconds()}" for name, spread in seconds.items() if name != "shardflow"]
    return Figure(
        f"{verb}, {where}",
        f"{seconds['shardflow'].seconds()}, peak {size(peaks['shardflow'])}",
        "; ".join(others),
        at_most(peaks["shardflow"], MEMORY, f"{size(MEMORY)} of memory"),
        {
            "seconds": {name: spread.as_dict() for name, spread in seconds.items()},
            "peak_bytes": {name: peak for name, peak in peaks.items() if peak},
        },
    )


if __name__ == "__main__":
    main()
