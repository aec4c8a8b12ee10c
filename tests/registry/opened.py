"""A registry as tests use it: the store, what it holds beside MLflow's tables, and policies of a test's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from shardflow.registry.audit import Entry, head_of, whole_trail
from shardflow.registry.facts import VersionFacts
from shardflow.registry.gate import NO_FACTS, Gate
from shardflow.registry.moving import standings
from shardflow.registry.store import ShardflowRegistryStore
from shardflow.registry.terms import Facts, Move, Refusal, Status
from shardflow.registry.trail import Verified, verified


@dataclass
class Rules:
    """A policy made of a function, which says why a move is not allowed, or nothing."""

    against: Callable[[Move, Facts], str | None] = lambda _move, _facts: None
    wanted: frozenset[str] = frozenset()
    facts: Callable[[Move], Facts] = lambda _move: NO_FACTS
    asked: list[Move] = field(default_factory=list)

    def needs(self, move: Move) -> frozenset[str]:
        return self.wanted

    def judge(self, move: Move, facts: Facts) -> tuple[Refusal, ...]:
        self.asked.append(move)
        why = self.against(move, facts)
        return (Refusal("test", why, "the policy says so"),) if why else ()

    def gate(self) -> Gate[Rules]:
        return Gate(lambda: self, lambda *_: None, lambda _policy, move, *_: self.facts(move))


@dataclass(frozen=True)
class Registry:
    """A registry, and ways to look into it."""

    store: ShardflowRegistryStore
    uri: str

    def register(self, model: str = "llama", versions: int = 1, **tags: str) -> list[int]:
        """A model with so many versions."""
        if not self.store.search_registered_models(f"name = '{model}'"):
            self.store.create_registered_model(model)
        made = []
        for _ in range(versions):
            own = [ModelVersionTag(key.replace("__", "."), value) for key, value in tags.items()]
            made.append(int(self.store.create_model_version(model, "file:///model", tags=own).version))
        return made

    def promote(self, model: str, version: int, *path: str) -> None:
        """Move a version through statuses, in the words of the reserved tag."""
        for status in path:
            self.store.set_model_version_tag(model, version, ModelVersionTag("shardflow.status", status))

    def version(self, model: str, version: int) -> ModelVersion:
        return self.store.get_model_version(model, version)

    def facts(self, model: str = "llama") -> dict[int, VersionFacts]:
        with self.store.engine.connect() as connection:
            return {one.facts.version: one.facts for one in standings(connection, model)}

    def statuses(self, model: str = "llama") -> dict[int, str]:
        return {version: facts.status.value for version, facts in self.facts(model).items()}

    def serving(self, model: str = "llama") -> list[int]:
        return [version for version, status in self.statuses(model).items() if status is Status.PRODUCTION.value]

    def trail(self) -> list[Entry]:
        with self.store.engine.connect() as connection:
            return list(whole_trail(connection))

    def verified(self) -> Verified:
        with self.store.engine.connect() as connection:
            return verified(whole_trail(connection), head_of(connection))

    def told(self) -> list[tuple[str, str, int | None, str | None, str | None, str]]:
        """The trail, without who and when."""
        return [(e.action, e.model, e.version, e.before, e.after, e.outcome) for e in self.trail()]


@contextmanager
def opened(uri: str, rules: Rules | None = None) -> Iterator[Registry]:
    """The registry in a database, for a while."""
    store = ShardflowRegistryStore(f"shardflow-{uri}", gate=(rules or Rules()).gate())
    try:
        yield Registry(store, uri)
    finally:
        store.engine.dispose()
        SqlAlchemyStore._engine_map.pop(uri, None)


def pages(ask: Callable[[str | None], Any]) -> Sequence[Any]:
    """All that a paged search finds."""
    found: list[Any] = []
    token = None
    while True:
        page = ask(token)
        found += page
        token = page.token
        if not token:
            return found
