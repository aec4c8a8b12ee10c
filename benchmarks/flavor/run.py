"""Logging and loading a model with the flavor, beside torch, safetensors and MLflow's own flavors, all verified.

    python benchmarks/flavor/run.py [--gib 1 4] [--places local s3] [--rounds 3]

Every round is a process of its own; rivals take turns. On a local disk a process does everything once as a warm-up and
then twice, in S3 once after a tiny model. Only Shardflow's stores and the rival that says so force data to the disk
before they call it saved.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import models

from harness import machine, options, servers
from harness.child import finished
from harness.figures import GIB, MIB, Figure, Goal, Report, Spread, at_least, at_most, ratios, size
from harness.places import LocalPlace, Place, S3Place, Workspace, settle, stored_bytes, workspace
from harness.running import alternated

NAME = "flavor"
HERE = Path(__file__).parent
LOCAL = ("torch", "torch, forced to the disk", "safetensors", "mlflow.pytorch", "mlflow.transformers")
REMOTE = ("mlflow.pytorch", "mlflow.transformers")
OURS, RAW = "shardflow", "shardflow, raw"
MORE_MEMORY = 600 * MIB
BUDGET = 256 * MIB  # of data in flight, which SHARDFLOW_MEMORY_BYTES says otherwise
RUNS = 3  # in a process, on a local disk; the first is a warm-up


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One model saved by one process and loaded by another."""

    save: dict[str, Any]
    load: dict[str, Any]
    stored_bytes: int  # on the local disk, or 0


@dataclass(slots=True)
class Course:
    """A place, a model, and the way there and back for each rival."""

    place: Place
    space: Workspace
    model: Path
    numbers: Iterator[int]

    def run(self, rival: str, _: int) -> RoundTrip:
        number = next(self.numbers)
        home = self.space.path(f"run-{number}")
        homes = [home / str(turn) for turn in range(RUNS if isinstance(self.place, LocalPlace) else 1)]
        way = OURS if rival == RAW else rival
        asked = {
            "rival": way,
            "directory": str(home / "files"),
            "homes": [str(home) for home in homes],
            "tracking": f"sqlite:///{self.space.path('mlflow.db')}",
            "experiments": [self._experiment(way, f"{number}-{home.name}", home) for home in homes],
            "model": str(self.model),
            "weights": models.NOISE if rival == RAW else models.WEIGHTS,
        }
        settle()
        saved = self._child(asked | {"verb": "save"})
        settle()
        loaded = self._child(asked | {"verb": "load", "saved": saved["answer"]})
        held = stored_bytes(homes[-1]) if isinstance(self.place, LocalPlace) else 0
        shutil.rmtree(home)
        self.place.clear()
        return RoundTrip(saved, loaded, held)

    def log_file(self, file: str) -> dict[str, Any]:
        """A checkpoint that lies on the disk, logged by a process of its own."""
        number = str(next(self.numbers))
        home = self.space.path(f"run-{number}")
        asked = {
            "file": str(self.model / file),
            "tracking": f"sqlite:///{self.space.path('mlflow.db')}",
            "experiment": self._experiment(OURS, number, home),
        }
        settle()
        found = self._child(asked, "from_file")
        shutil.rmtree(home, ignore_errors=True)
        self.place.clear()
        return found

    def _child(self, asked: dict[str, Any], program: str = "rivals") -> dict[str, Any]:
        argv = [sys.executable, str(HERE / f"{program}.py"), json.dumps(asked)]
        environment = {**self.place.env, "HF_HUB_OFFLINE": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "1"}
        if "AWS_ENDPOINT_URL" in environment:
            environment["MLFLOW_S3_ENDPOINT_URL"] = environment["AWS_ENDPOINT_URL"]
        answer: dict[str, Any] = json.loads(finished(argv, environment).output.splitlines()[-1])
        return answer

    def _experiment(self, way: str, number: str, home: Path) -> str:
        """An experiment whose artifacts go where this rival is to write."""
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{self.space.path('mlflow.db')}")
        name = f"{way} {number}"
        mlflow.create_experiment(name, artifact_location=self._location(way, number, home))
        return name

    def _location(self, way: str, number: str, home: Path) -> str:
        if isinstance(self.place, S3Place):
            return self.place.new_store() if way == OURS else f"s3://{self.place.bucket}/stock/{number}"
        return f"shardflow://file{home}/store" if way == OURS else str(home / "stock")


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    options.add_server(parser)
    parser.add_argument("--gib", type=float, nargs="+", help="sizes of the weights (default: 1 4)")
    parser.add_argument("--places", nargs="+", choices=("local", "s3"), default=["local", "s3"])
    parser.add_argument("--rounds", type=int, help="measured rounds (default: 3)")
    parser.add_argument("--rivals", nargs="+", help="only these, and Shardflow")
    arguments = parser.parse_args()
    lengths = [int(gib * GIB) for gib in arguments.gib or ([0.01] if arguments.small else [1, 4])]
    rounds = arguments.rounds or (1 if arguments.small else 3)
    kind = servers.choice(arguments.server, small=arguments.small)
    settings = {"bytes": lengths, "rounds": rounds, "server": kind}
    report = Report(NAME, "A model logged and loaded, verified", settings, judged=not arguments.small)
    report.about.update(machine.versions(("torch", "safetensors", "mlflow", "transformers")))
    with workspace(8 * max(lengths) + GIB, arguments.directory) as space:
        for length in lengths:
            model = space.path(f"model-{length}")
            exact = models.prepare(model, length)
            for name in arguments.places:
                with at(name, space, kind) as place:
                    course = Course(place, space, model, count())
                    compare(report, course, exact, rounds, arguments.rivals)
            shutil.rmtree(model)
    report.show()
    report.write(arguments.json)


@contextmanager
def at(name: str, space: Workspace, kind: str) -> Iterator[Place]:
    """A place on the disk, or on a server that runs as long as it is needed."""
    if name == "local":
        yield LocalPlace(space)
        return
    with servers.running(kind, space.path("server")) as server:
        yield S3Place(space, server)


def compare(report: Report, course: Course, exact: int, rounds: int, wanted: list[str] | None) -> None:
    local = isinstance(course.place, LocalPlace)
    peers = [name for name in (LOCAL if local else REMOTE) if wanted is None or name in wanted]
    names = [*peers, OURS, *([RAW] if local else [])]
    works = {name: (lambda number, name=name: course.run(name, number)) for name in names}
    trips = alternated(works, rounds, warm_up=0)
    where = f"{size(exact)}, {course.place.name}"
    for verb, faster in (("save", 2.0), ("load", 2.0)):
        times = {name: [getattr(trip, verb)["seconds"] for trip in found] for name, found in trips.items()}
        report.add(_against(f"{verb} {where}", OURS, "mlflow.pytorch", times, faster))
        if local and "torch" in times:
            report.add(_against(f"{verb} {where}, raw shards", RAW, "torch", times, 1.0))
    report.add(_memory(where, exact, trips))
    for file in (models.WEIGHTS, models.OF_TORCH):
        report.add(_file_memory(f"{where}, from {file}", course.log_file(file)))
    if local:
        report.add(_disk(where, trips))


def _against(what: str, ours: str, peer: str, times: dict[str, list[float]], wanted: float) -> Figure:
    """One rival of ours beside all others; held against one of them."""
    beside = "; ".join(f"{name}: {Spread.of(taken).seconds()}" for name, taken in times.items() if name != ours)
    raw = {"seconds": {name: Spread.of(taken).as_dict() for name, taken in times.items()}}
    if peer not in times:
        return Figure(what, Spread.of(times[ours]).seconds(), beside, None, raw)
    speed = ratios(times[peer], times[ours])
    text = f"{Spread.of(times[ours]).seconds()}; {speed.median:.2f} times the speed of {peer}"
    goal = at_least(speed.median, wanted, f"{wanted:g} times {peer}")
    return Figure(what, text, beside, goal, raw | {"speed": speed.as_dict()})


def _memory(where: str, exact: int, trips: dict[str, list[RoundTrip]]) -> Figure:
    def peak(verb: str, name: str) -> int:
        return max(getattr(trip, verb)["peak_bytes"] for trip in trips[name])

    beside = "; ".join(
        f"{name}: {size(peak('save', name))}, {size(peak('load', name))}" for name in trips if name != OURS
    )
    goal = at_most(peak("load", OURS), exact + MORE_MEMORY, f"the model and {size(MORE_MEMORY)} on load")
    raw = {name: {verb: peak(verb, name) for verb in ("save", "load")} for name in trips}
    text = f"save {size(peak('save', OURS))}, load {size(peak('load', OURS))}"
    return Figure(f"memory beyond what was there, {where}", text, beside, goal, {"peak_bytes": raw})


def _file_memory(where: str, found: dict[str, Any]) -> Figure:
    own = found["own_peak_bytes"]
    raw = {"own_peak_bytes": own, "peak_bytes": found["peak_bytes"], "seconds": found["seconds"]}
    beside = f"with the mapped pages of the file: {size(found['peak_bytes'])}"
    goal = at_most(own, BUDGET, f"the budget, {size(BUDGET)}")
    return Figure(f"memory to log {where}", size(own), beside, goal, raw)


def _disk(where: str, trips: dict[str, list[RoundTrip]]) -> Figure:
    def share(name: str) -> float:
        return max(trip.save["written_bytes"] / trip.stored_bytes for trip in trips[name])

    beside = "; ".join(f"{name}: {share(name):.2f}" for name in trips if name != OURS)
    goal: Goal = at_most(share(OURS), 1.05, "1.05 times the stored size")
    return Figure(f"disk written, {where}", f"{share(OURS):.3f} times what is stored", beside, goal)


if __name__ == "__main__":
    main()
