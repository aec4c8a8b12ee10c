"""Peak memory of put and get of one large incompressible file: it must not grow with the file.

Each operation runs in a process of its own; its peak is the largest resident set of that process, with interpreter and
libraries in it. How much of its allowance a process uses at once differs from run to run, so for both sizes the largest
of several runs counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness import machine, material, options, servers
from harness.child import Outcome, perform
from harness.figures import GIB, MIB, Figure, Goal, Report, size
from harness.places import LocalPlace, Place, S3Place, Workspace, settle, workspace

NAME = "memory"
LIMIT = 600 * MIB
GROWTH = 1.10
ROOM = 3.3  # the source, what is stored of it, and what is restored, each once


@dataclass(frozen=True, slots=True)
class Peaks:
    """One file put and got back, several times."""

    put: list[Outcome]
    get: list[Outcome]


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--rounds", type=int, help="runs of each size, of which the largest counts (default: 3)")
    parser.add_argument("--sizes", type=int, nargs=2, metavar="MIB", help="the two sizes (default: 1024 8192)")
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    arguments = parser.parse_args()
    lengths = [mib * MIB for mib in arguments.sizes or ((8, 32) if arguments.small else (1024, 8192))]
    rounds = arguments.rounds or (1 if arguments.small else 3)
    kind = servers.choice(arguments.server, small=arguments.small)
    about = {"bytes": lengths, "rounds": rounds, "server": kind}
    report = Report(NAME, "Peak memory", about, judged=not arguments.small)
    with workspace(int(ROOM * max(lengths)) + GIB, arguments.directory) as space:
        if "local" in arguments.places:
            measure(report, LocalPlace(space), space, lengths, rounds)
        if "s3" in arguments.places:
            with servers.running(kind, space.path("server")) as server:
                report.about.update(machine.server_version(kind))
                measure(report, S3Place(space, server), space, lengths, rounds)
    report.show()
    report.write(arguments.json)


def measure(report: Report, place: Place, space: Workspace, lengths: list[int], rounds: int) -> None:
    """Both sizes in one place."""
    found = {}
    for length in lengths:
        source = material.random_file(space.path("source"), length)
        found[length] = Peaks([], [])
        for _ in range(rounds):
            there_and_back(place, source, space.path("restored"), found[length])
        source.unlink()
    small, large = (found[length] for length in lengths)
    for verb in ("put", "get"):
        report.add(compared(verb, place.name, lengths, getattr(small, verb), getattr(large, verb)))


def there_and_back(place: Place, source: Path, target: Path, peaks: Peaks) -> None:
    url = place.new_store() + "/file"
    settle()
    peaks.put.append(perform("put", place.env, source=str(source), url=url))
    settle()
    peaks.get.append(perform("get", place.env, url=url, target=str(target)))
    material.same(material.digest(target), material.digest(source), f"a file from {place.name}")
    target.unlink()
    place.clear()


def compared(verb: str, where: str, lengths: list[int], *runs: list[Outcome]) -> Figure:
    """The largest of the small file's runs, and of the large one's."""
    small, large = (max(run.peak_bytes for run in of_one_size) for of_one_size in runs)
    by_size = dict(zip(lengths, runs, strict=True))
    growth, largest = large / small, max(small, large)
    goal = Goal(
        f"under {size(LIMIT)}, within {GROWTH - 1:.0%} of the smaller file's",
        met=largest < LIMIT and growth <= GROWTH,
    )
    return Figure(
        f"{verb} {size(lengths[1])}, {where}",
        f"{size(large)}; {growth:.2f} times that of {size(lengths[0])}",
        f"{size(lengths[0])}: {size(small)}",
        goal,
        {
            "peak_bytes": {length: [run.peak_bytes for run in each] for length, each in by_size.items()},
            "seconds": {length: [run.seconds for run in each] for length, each in by_size.items()},
            "growth": growth,
        },
    )


if __name__ == "__main__":
    main()
