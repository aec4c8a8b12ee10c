"""Many versions of one file that each differ a little: what they take to store, and whether time grows with them.

Each version has one run of 1 % replaced at a random place. Beside the stored bytes stands what blocks of a fixed 4 MiB
would take, beside the times a plain copy. At the end some bytes are inserted into the middle of a large file.
"""

from __future__ import annotations

import random
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from harness import material, options
from harness.child import perform
from harness.figures import GIB, KIB, MIB, Figure, Report, Spread, at_most, size
from harness.places import LocalPlace, Workspace, settle, stored_bytes, workspace
from harness.running import repeated

NAME = "versions"
FIXED_BLOCK = 4 * MIB
NOISE = 1.25  # how much slower still counts as the same, for times of a second


@dataclass(slots=True)
class History:
    """One file, and a store with all its versions."""

    place: LocalPlace
    space: Workspace
    length: int
    url: str = field(init=False)
    file: Path = field(init=False)
    put_seconds: list[float] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    _random: random.Random = field(default_factory=lambda: random.Random(2))

    def __post_init__(self) -> None:
        self.url = self.place.new_store()
        self.file = material.random_file(self.space.path("versioned"), self.length)

    @property
    def root(self) -> Path:
        return Path(self.url.removeprefix("shardflow://file"))

    def url_of(self, version: int) -> str:
        return f"{self.url}/versions/{version:03d}/file"

    def put_next(self) -> None:
        """Change the file, but for its first version, and put it beside the others."""
        version = len(self.put_seconds) + 1
        run = self.length // 100
        if version > 1:
            start = self._random.randrange(self.length - run)
            material.replace_run(self.file, start, material.Noise(1000 + version).take(run))
        self.digests.append(material.digest(self.file))
        settle()
        put = perform("put", self.place.env, source=str(self.file), url=self.url_of(version))
        self.put_seconds.append(put.seconds)
        self.stored.append(stored_bytes(self.root))

    def get_seconds(self, version: int) -> float:
        target = self.space.path("restored")
        settle()
        got = perform("get", self.place.env, url=self.url_of(version), target=str(target))
        material.same(material.digest(target), self.digests[version - 1], f"version {version}")
        target.unlink()
        return got.seconds


@dataclass(slots=True)
class FixedBlocks:
    """The peer in bytes: every distinct block of a fixed size is stored once."""

    seen: set[bytes] = field(default_factory=set)
    stored: int = 0

    def add(self, file: Path) -> None:
        with file.open("rb") as data:
            while block := data.read(FIXED_BLOCK):
                name = blake3(block, max_threads=blake3.AUTO).digest()
                self.stored += 0 if name in self.seen else len(block)
                self.seen.add(name)


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    parser.add_argument("--versions", type=int, help="how many (default: 100)")
    parser.add_argument("--mib", type=int, help="size of the file (default: 200)")
    parser.add_argument("--insert-mib", type=int, help="size of the file with an insertion (default: 1024)")
    arguments = parser.parse_args()
    count = max(2, arguments.versions or (3 if arguments.small else 100))
    length = (arguments.mib or (4 if arguments.small else 200)) * MIB
    large = (arguments.insert_mib or (8 if arguments.small else 1024)) * MIB
    settings = {"versions": count, "bytes": length, "insertion_bytes": large}
    report = Report(NAME, f"{count} versions of {size(length)}, 1 % new in each", settings, judged=not arguments.small)
    with workspace(8 * length + 4 * large + GIB, arguments.directory) as space:
        place = LocalPlace(space)
        measure_versions(report, place, space, length, count)
        place.clear()
        measure_insertion(report, place, space, large)
    report.show()
    report.write(arguments.json)


def measure_versions(report: Report, place: LocalPlace, space: Workspace, length: int, count: int) -> None:
    history, fixed = History(place, space, length), FixedBlocks()
    if count >= 10:
        warm_up(place, history.file)
    gets = 1 if count < 10 else 5
    history.put_next()
    fixed.add(history.file)
    alone = Spread.of(repeated(lambda _: history.get_seconds(1), gets, warm_up=int(gets > 1)))
    for _ in range(1, count):
        history.put_next()
        fixed.add(history.file)
    report.add(stored(history, fixed))
    copies = Spread.of(repeated(lambda _: copy_seconds(history.file, space.path("copy")), gets))
    report.add(put_times(history, copies))
    rounds = repeated(
        lambda _: [history.get_seconds(version) for version in (1, count // 2, count)], gets, warm_up=int(gets > 1)
    )
    names = ("first", "middle", "last")
    times = {name: Spread.of([taken[index] for taken in rounds]) for index, name in enumerate(names)}
    report.add(get_times(alone, times, copies, count))


def stored(history: History, fixed: FixedBlocks) -> Figure:
    one, every = history.stored[0], history.stored[-1]
    return Figure(
        f"stored bytes of {len(history.stored)} versions",
        f"{size(every)}, {every / one:.2f} times one version",
        f"fixed blocks of {size(FIXED_BLOCK)}: {fixed.stored / history.length:.1f} times one version",
        at_most(every / one, 2.2, "2.2 times one version"),
        {"stored_bytes": history.stored, "fixed_block_bytes": fixed.stored, "times_one_version": every / one},
    )


def put_times(history: History, copies: Spread) -> Figure:
    """Medians of a few versions at either end, since one run alone says little."""
    few = max(1, min(9, (len(history.put_seconds) - 1) // 2))
    early, late = Spread.of(history.put_seconds[1 : 1 + few]), Spread.of(history.put_seconds[-few:])
    growth = late.median / early.median
    return Figure(
        f"put of the last version, median of {few}",
        f"{late.seconds()}, {growth:.2f} times that of version 2 and after ({early.seconds()})",
        f"copy of the file: {copies.seconds()}",
        at_most(growth, NOISE, f"{NOISE} times (no slower, within noise)"),
        {"put_seconds": history.put_seconds, "growth": growth, "copy_seconds": copies.as_dict()},
    )


def get_times(alone: Spread, times: dict[str, Spread], copies: Spread, count: int) -> Figure:
    slowest = max(spread.median for spread in times.values())
    among = times["first"].median / alone.median
    said = ", ".join(f"{name} {spread.seconds()}" for name, spread in times.items())
    return Figure(
        f"get of a version among {count}",
        f"{said}; the first alone {alone.seconds()}",
        f"copy of the file: {copies.seconds()}",
        at_most(max(among, slowest / alone.median), NOISE, f"{NOISE} times a version alone"),
        {
            "seconds": {name: spread.as_dict() for name, spread in times.items()},
            "alone_seconds": alone.as_dict(),
            "slowest_over_alone": slowest / alone.median,
        },
    )


def measure_insertion(report: Report, place: LocalPlace, space: Workspace, length: int) -> None:
    """64 KiB more in the middle of a large file."""
    inserted = material.Noise(3).take(64 * KIB)
    before = material.random_file(space.path("before"), length)
    after = material.with_insertion(before, space.path("after"), length // 2 + 12345, inserted)
    fixed = FixedBlocks()
    fixed.add(before)
    first = fixed.stored
    fixed.add(after)
    url = place.new_store()
    root = Path(url.removeprefix("shardflow://file"))
    perform("put", place.env, source=str(before), url=f"{url}/before")
    held = stored_bytes(root)
    perform("put", place.env, source=str(after), url=f"{url}/after")
    new = stored_bytes(root) - held
    target = space.path("restored")
    perform("get", place.env, url=f"{url}/after", target=str(target))
    material.same(material.digest(target), material.digest(after), "the file with an insertion")
    report.add(
        Figure(
            f"{size(len(inserted))} inserted into {size(length)}",
            f"{size(new)} new",
            f"fixed blocks of {size(FIXED_BLOCK)}: {size(fixed.stored - first)} new",
            at_most(new, 8 * MIB, "8 MiB"),
            {"new_bytes": new, "fixed_block_bytes": fixed.stored - first},
        )
    )


def warm_up(place: LocalPlace, file: Path) -> None:
    """One put that is not measured."""
    perform("put", place.env, source=str(file), url=place.new_store() + "/warm-up")
    place.space.forget()


def copy_seconds(source: Path, target: Path) -> float:
    """A plain `cp`."""
    settle()
    began = time.perf_counter()
    subprocess.run(["cp", str(source), str(target)], check=True)
    seconds = time.perf_counter() - began
    target.unlink()
    return seconds


if __name__ == "__main__":
    main()
