"""Promotions at once: whatever the order, one version serves, nothing is lost, and the trail is one chain."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine, select

from registry.opened import Registry, Rules, opened
from shardflow.registry.audit import whole_trail
from shardflow.registry.facts import VersionFacts
from shardflow.registry.gate import NO_FACTS, Gate
from shardflow.registry.gathering import subject_of
from shardflow.registry.lifecycle import STAGES
from shardflow.registry.moving import version_tags
from shardflow.registry.refusals import Refused
from shardflow.registry.tables import AUDIT_HEAD, Database, prepare
from shardflow.registry.terms import Facts, Move, Status
from shardflow.registry.trail import stages_told

AT_ONCE = 50


def together(acts: Sequence[Callable[[], object]]) -> list[BaseException | None]:
    """Do all at the same moment; what each of them raised."""
    start = threading.Barrier(len(acts))

    def one(act: Callable[[], object]) -> BaseException | None:
        start.wait()
        try:
            act()
        except Exception as error:  # noqa: BLE001  # the caller looks at it
            return error
        return None

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(one, acts))


def promotions(registry: Registry, versions: Sequence[int]) -> list[Callable[[], object]]:
    """A promotion of each version, in the three kinds of words in turn."""
    store = registry.store
    words = [
        lambda version: store.transition_model_version_stage("llama", version, "Production", True),
        lambda version: store.set_registered_model_alias("llama", "production", version),
        lambda version: registry.promote("llama", version, "production"),
    ]
    return [lambda version=version: words[version % 3](version) for version in versions]


def agrees(registry: Registry) -> None:
    """Status, stage, tag, alias and trail of every version say the same."""
    found = {int(one.version): one for one in registry.store.search_model_versions("name = 'llama'", max_results=1000)}
    statuses = registry.statuses()
    assert {version: one.current_stage for version, one in found.items()} == {
        version: STAGES[Status(status)] for version, status in statuses.items()
    }
    assert {version: one.tags["shardflow.status"] for version, one in found.items()} == statuses
    assert {key[1]: status.value for key, status in stages_told(registry.trail()).items()} == statuses
    assert registry.verified().flaws == ()
    serving = registry.serving()
    holder = registry.store.get_registered_model("llama").aliases.get("production")
    assert ([] if holder is None else [int(holder)]) == serving


def test_of_fifty_versions_promoted_at_once_one_serves_and_the_chain_is_unbroken(any_registry: Registry) -> None:
    versions = any_registry.register(versions=AT_ONCE)
    for version in versions:
        any_registry.promote("llama", version, "staging")
    assert together(promotions(any_registry, versions)) == [None] * AT_ONCE
    assert Counter(any_registry.statuses().values()) == {"production": 1, "archived": AT_ONCE - 1}
    agrees(any_registry)
    assert len(any_registry.trail()) == 1 + AT_ONCE + AT_ONCE + AT_ONCE + (AT_ONCE - 1)


def test_those_that_are_not_ready_are_refused_and_the_others_are_not_hindered(any_registry: Registry) -> None:
    versions = any_registry.register(versions=AT_ONCE)
    ready, drafts = versions[::2], versions[1::2]
    for version in ready:
        any_registry.promote("llama", version, "staging")
    errors = together(promotions(any_registry, versions))
    assert [version for version, error in zip(versions, errors, strict=True) if error] == drafts
    assert all(isinstance(error, Refused) for error in errors if error)
    assert {any_registry.statuses()[version] for version in drafts} == {"draft"}
    assert len(any_registry.serving()) == 1
    agrees(any_registry)
    refused = [row.version for row in any_registry.trail() if row.outcome == "refused"]
    assert sorted(version for version in refused if version) == drafts


def test_a_policy_that_asks_for_evidence_judges_every_promotion_by_who_serves_then(sqlite_uri: str) -> None:
    """Only a version with a higher number may take over; gathering happens outside of any act."""

    def gathered(_: object) -> Facts:
        serving = [int(version) for version in registry.serving()]
        return Facts(metrics={}, production={"number": serving[0]} if serving else None)

    def against(move: object, facts: Facts) -> str | None:
        lower = facts.production and facts.production["number"] >= move.version  # type: ignore[attr-defined]
        return "choose a later one" if move.after is Status.PRODUCTION and lower else None  # type: ignore[attr-defined]

    rules = Rules(against, frozenset({"production"}), gathered)
    with opened(sqlite_uri, rules) as registry:
        versions = registry.register(versions=8)
        for version in versions:
            registry.promote("llama", version, "staging")
        errors = together(promotions(registry, versions))
        took_over = [row.version for row in registry.trail() if row.after == "production" and row.outcome == "done"]
        assert took_over == sorted(took_over, key=lambda version: version or 0)
        assert registry.serving() == [8]
        assert len([error for error in errors if error]) == 8 - len(took_over)
        agrees(registry)


class Withdrawing(Rules):
    """A policy that goes by a tag, which is taken away as soon as it was looked at."""

    def __init__(self, uri: str) -> None:
        super().__init__(lambda _, facts: None if facts.metrics["passed"] else "test it again", frozenset({"metrics"}))
        self.uri = uri

    def gate(self) -> Gate[Rules]:
        def look(db: Database, facts: VersionFacts, _: frozenset[str]) -> bool:
            return "tests" in version_tags(db, facts.model, facts.version)

        def gather(_policy: Rules, _move: Move, _needs: frozenset[str], passed: bool) -> Facts:
            if passed:
                with opened(self.uri) as other:
                    other.store.delete_model_version_tag("llama", "1", "tests")
            return replace(NO_FACTS, metrics={"passed": float(passed)})

        return Gate(lambda: self, look, gather)


def test_evidence_withdrawn_while_files_are_looked_at_does_not_count(database_uri: str) -> None:
    with opened(database_uri) as before:
        before.register(tests="passed")
    with opened(database_uri, Withdrawing(database_uri)) as registry:
        with pytest.raises(Refused, match="Test it again"):
            registry.store.transition_model_version_stage("llama", 1, "Staging", False)
        assert registry.statuses() == {1: "draft"}


def test_a_version_removed_while_it_is_looked_at_is_told_in_a_line(registry: Registry) -> None:
    gone = VersionFacts("llama", 7, Status.STAGING, 1.0)
    with registry.store.engine.connect() as db, pytest.raises(MlflowException, match="llama/7 was removed or renamed"):
        subject_of(db, gone, frozenset({"verdicts"}))


def test_versions_and_moves_of_several_models_at_once_share_one_chain(any_registry: Registry) -> None:
    for name in ("a", "b", "c"):
        any_registry.register(name)
    acts: list[Callable[[], object]] = [lambda name=name: any_registry.register(name) for name in "abcabcabc"]
    acts += [lambda name=name: any_registry.promote(name, 1, "testing") for name in "abc"]
    assert together(acts) == [None] * len(acts)
    assert {name: len(any_registry.statuses(name)) for name in "abc"} == {"a": 4, "b": 4, "c": 4}
    assert any_registry.verified().flaws == ()


def test_workers_that_start_at_once_make_the_tables_once(database_uri: str) -> None:
    engines = [create_engine(database_uri) for _ in range(4)]
    try:
        assert together([lambda engine=engine: prepare(engine) for engine in engines]) == [None] * 4
        with engines[0].connect() as connection:
            assert [tuple(row) for row in connection.execute(select(AUDIT_HEAD))] == [(1, 0, "")]
            assert list(whole_trail(connection)) == []
    finally:
        for engine in engines:
            engine.dispose()
