"""The gated registry beside MLflow's own store: lookups, moves and lineage in a registry of 200,000 versions.

    python benchmarks/registry/run.py [--places sqlite postgres] [--models 10000] [--rounds 200]

Both work on databases of the same content, in turns, each call on a model that neither has touched. Calls are those of
the store, without a server, whose own time would hide differences. PostgreSQL is Debian's, started here; like the
database that tests use it does not force its log to the disk, which would make every write slower on both sides.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[2] / "tests"))

from evidence import FILES, evidenced, policy, shipped
from filled import CHAIN, CHAMPION, PARENT_TAG, fill, fill_chain, name_of
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from harness import machine, options
from harness.figures import MIB, Figure, Report, Spread, at_most, ratios
from harness.places import Workspace, settle, workspace
from shardflow.registry.store import ShardflowRegistryStore

NAME = "registry"
VERSIONS = 20
WARM = 10
MOST = 1.5
LONG_ENOUGH = 0.100
EVIDENCED = 150  # versions with files of their own, which take time to store
LIBRARIES = ("mlflow", "sqlalchemy", "psycopg")
OPEN = "rules: []\n"
ASKING = "rules: [{to: production, require: {time_in_status: 1s}}]\n"

Act = Callable[[Any, str], object]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two stores over databases of the same content."""

    stock: SqlAlchemyStore
    ours: ShardflowRegistryStore
    policy: Path

    def times(self, names: list[str], act: Act, stock_act: Act | None = None) -> tuple[list[float], list[float]]:
        """How long each call took, the two in turns; the first ones are dropped."""
        stock, ours = list[float](), list[float]()
        for number, name in enumerate(names):
            sides = [(stock, self.stock, stock_act or act), (ours, self.ours, act)]
            for times, store, call in sides if number % 2 else sides[::-1]:
                times.append(timed(lambda store=store, call=call, name=name: call(store, name)))
        return stock[WARM:], ours[WARM:]

    def each(self, names: list[str], act: Act) -> None:
        """The same on both sides, untimed."""
        for name in names:
            act(self.stock, name)
            act(self.ours, name)


def main() -> None:
    parser = options.parser(NAME, __doc__ or "")
    parser.add_argument("--places", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
    parser.add_argument("--models", type=int, help="how many models, of 20 versions each (default: 10000)")
    parser.add_argument("--rounds", type=int, help="calls of each kind (default: 200)")
    parser.add_argument("--chain", type=int, help="how long a line of descent (default: 1000)")
    arguments = parser.parse_args()
    small = arguments.small
    sizes = {
        "models": arguments.models or (120 if small else 10_000),
        "versions": VERSIONS,
        "rounds": arguments.rounds or (5 if small else 200),
        "chain": arguments.chain or (20 if small else 1000),
    }
    report = Report(NAME, f"The registry, {sizes['models'] * VERSIONS:,} versions", sizes, judged=not small)
    report.about.update(machine.versions(LIBRARIES))
    with workspace(2000 * MIB, arguments.directory) as space:
        for place in arguments.places:
            with DATABASES[place](space) as (stock, ours), pair(space, stock, ours, sizes) as stores:
                print(place, flush=True)
                measure(report, stores, place, sizes, space)
    report.show()
    report.write(arguments.json)


@contextmanager
def sqlite(space: Workspace) -> Iterator[tuple[str, str]]:
    yield f"sqlite:///{space.path('stock.db')}", f"sqlite:///{space.path('ours.db')}"


@contextmanager
def postgres(space: Workspace) -> Iterator[tuple[str, str]]:
    from services import postgres as server  # of the tests

    home = space.path("postgres")
    home.mkdir()
    with server.running(home) as running:
        yield running.new_database(), running.new_database()


DATABASES = {"sqlite": sqlite, "postgres": postgres}


@contextmanager
def pair(space: Workspace, stock_uri: str, ours_uri: str, sizes: dict[str, int]) -> Iterator[Pair]:
    """Both stores, filled."""
    policy = space.path("policy.yaml")
    policy.write_text(OPEN)
    os.environ["SHARDFLOW_POLICY"] = str(policy)
    with ExitStack() as closing:
        stores = SqlAlchemyStore(stock_uri), ShardflowRegistryStore(f"shardflow-{ours_uri}")
        for store, ours in zip(stores, (False, True), strict=True):
            closing.callback(store.engine.dispose)
            fill(store.engine, sizes["models"], VERSIONS, ours=ours)
            fill_chain(store.engine, sizes["chain"], ours=ours)
            settled(store)
        yield Pair(*stores, policy)


def settled(store: SqlAlchemyStore) -> None:
    """Let the database count its rows, as it does by itself after a while."""
    with store.engine.connect() as connection:
        connection.connection.driver_connection.commit()
        connection.exec_driver_sql("ANALYZE")
        connection.commit()
    settle()


def measure(report: Report, stores: Pair, place: str, sizes: dict[str, int], space: Workspace) -> None:
    """All figures of one kind of database."""
    rounds = sizes["rounds"] + WARM
    fresh = iter(random.Random(1).sample(range(sizes["models"]), 7 * rounds))

    def some() -> list[str]:
        """Models that no call has been about."""
        return [name_of(next(fresh)) for _ in range(rounds)]

    report.add(compared(f"{place}: lookup by alias", stores.times(some(), by_alias(CHAMPION))))
    report.add(compared(f"{place}: lookup by semantic version", stores.times(some(), by_alias("v1-7-0"))))
    report.add(compared(f"{place}: transition, policy asks for nothing", stores.times(some(), promoted)))
    stores.policy.write_text(ASKING)
    report.add(compared(f"{place}: transition, policy looks at facts", stores.times(some(), promoted)))
    names, others = some()[:EVIDENCED], some()[:EVIDENCED]
    key = evidenced(space, f"evidence-{place}", stores.ours, [*names, *others], VERSIONS - 1)
    settle()  # the files just stored are not to be written while moves are timed
    on_evidence(report, stores, f"{place}: transition, the policy that ships", shipped(key), names)
    signed = f"{place}: transition, policy asks for an evaluation and a signature"
    on_evidence(report, stores, signed, policy(key), others, judged=False)
    report.add(compared(f"{place}: registering a version", stores.times(some(), registered), judged=False))
    report.add(lineage(stores, place, sizes["chain"]))


def on_evidence(report: Report, stores: Pair, what: str, asking: str, names: list[str], *, judged: bool = True) -> None:
    """Moves that rest on what is in files, of which MLflow's own looks at none; the second time they are known."""
    for when in ("first seen", "seen before"):
        stores.policy.write_text(asking)
        report.add(compared(f"{what}, {FILES} files, {when}", stores.times(names, promoted), judged=judged))
        stores.policy.write_text(OPEN)
        stores.each(names, taken_back)


def by_alias(alias: str) -> Act:
    return lambda store, name: store.get_model_version_by_alias(name, alias)


def promoted(store: SqlAlchemyStore, name: str) -> object:
    """The newest version in staging takes the place of who serves."""
    return store.transition_model_version_stage(name, VERSIONS - 1, "Production", archive_existing_versions=True)


def taken_back(store: SqlAlchemyStore, name: str) -> object:
    """As it was before that."""
    store.transition_model_version_stage(name, VERSIONS - 1, "Staging", archive_existing_versions=False)
    return store.transition_model_version_stage(name, VERSIONS - 3, "Production", archive_existing_versions=False)


def registered(store: SqlAlchemyStore, name: str) -> object:
    return store.create_model_version(name, "s3://bucket/model", tags=[ModelVersionTag("framework", "torch")])


def lineage(stores: Pair, place: str, length: int) -> Figure:
    """All ancestors of the last of a line, in one search; beside it, what MLflow's store needs to follow a tag."""
    times = [timed(lambda: ancestors(stores.ours, length)) for _ in range(12)][2:]
    followed = [timed(lambda: one_by_one(stores.stock, length)) for _ in range(3)][1:]
    ours, stock = Spread.of(times), Spread.of(followed)
    goal = at_most(ours.median, LONG_ENOUGH, "100 ms")
    raw = {"ours": ours.as_dict(), "stock": stock.as_dict()}
    return Figure(f"{place}: lineage of {length} in a line", milli(ours), milli(stock), goal, raw)


def ancestors(store: ShardflowRegistryStore, length: int) -> None:
    found = store.search_model_versions(f"shardflow.lineage = '{CHAIN}/{length}'")
    assert len(found) == length, len(found)


def one_by_one(store: SqlAlchemyStore, length: int) -> None:
    number = length
    while number > 1:
        number = int(store.get_model_version(CHAIN, number).tags[PARENT_TAG])


def compared(what: str, times: tuple[list[float], list[float]], *, judged: bool = True) -> Figure:
    stock, ours = map(Spread.of, times)
    ratio = ratios(*times[::-1])
    raw = {"ours": ours.as_dict(), "stock": stock.as_dict(), "ratios": ratio.as_dict()}
    goal = at_most(ratio.median, MOST, f"{MOST} times MLflow's") if judged else None
    return Figure(what, f"{milli(ours)}, {ratio.median:.2f} times", milli(stock), goal, raw)


def milli(spread: Spread) -> str:
    return f"{spread.median * 1000:.2f} ms ({spread.low * 1000:.2f} to {spread.high * 1000:.2f})"


def timed(act: Callable[[], object]) -> float:
    gc.collect(0)
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
