"""Reserved tags that say odd things: what is written of them is what every database keeps, and asking stays cheap."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from sqlalchemy import event

from registry.opened import Registry
from shardflow.registry.asking import deployments_of
from shardflow.registry.claims import MOST_PARENTS
from shardflow.registry.parents import parents_of


def tag(registry: Registry, key: str, value: str) -> None:
    registry.store.set_model_version_tag("llama", 1, ModelVersionTag(key, value))


def refusal(registry: Registry, key: str, value: str) -> str:
    with pytest.raises(MlflowException) as refused:
        tag(registry, key, value)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    return refused.value.message


@contextmanager
def statements(registry: Registry) -> Iterator[list[str]]:
    """What the database is told."""
    told: list[str] = []

    def listen(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        told.append(statement)

    event.listen(registry.store.engine, "before_cursor_execute", listen)
    yield told
    event.remove(registry.store.engine, "before_cursor_execute", listen)


def test_each_parent_is_looked_up_once_and_by_itself(registry: Registry) -> None:
    registry.register()
    registry.register("base", versions=3)
    with statements(registry) as usual:
        tag(registry, "shardflow.parents", json.dumps([{"model": "base", "version": 1}]))
    with statements(registry) as told:
        tag(registry, "shardflow.parents", json.dumps([{"model": "base", "version": 2}] * 500))
    assert len(told) <= len(usual)
    with registry.store.engine.connect() as connection:
        found = [(edge.parent_model, edge.parent_version) for edge in parents_of(connection, "llama", 1)]
    assert found == [("base", 1), ("base", 2)]


def test_more_parents_than_any_model_has_are_refused(registry: Registry) -> None:
    registry.register()
    registry.register("base", versions=MOST_PARENTS + 1)
    many = [{"model": "base", "version": number} for number in range(1, MOST_PARENTS + 2)]
    assert refusal(registry, "shardflow.parents", json.dumps(many)) == (
        f"Name those that matter most (shardflow.parents names {MOST_PARENTS + 1} parents, and at most {MOST_PARENTS} "
        "are kept)"
    )
    tag(registry, "shardflow.parents", json.dumps(many[1:]))
    with registry.store.engine.connect() as connection:
        assert len(parents_of(connection, "llama", 1)) == MOST_PARENTS


def test_a_parent_that_was_deleted_or_never_registered_is_refused(any_registry: Registry) -> None:
    any_registry.register()
    any_registry.register("base", versions=2)
    any_registry.store.delete_model_version("base", 1)
    for model, version in (("base", 1), ("base", 3), ("base", 10**12), ("nothing", 1), ("llama", 1)):
        told = refusal(any_registry, "shardflow.parents", json.dumps([{"model": model, "version": version}]))
        assert told.endswith(f"({model}/{version} cannot be a parent of llama/1)")
    tag(any_registry, "shardflow.parents", '[{"model": "base", "version": 2}, {"model": "nothing"}]')


def test_a_parent_whose_name_is_no_line_of_text_is_refused(any_registry: Registry) -> None:
    any_registry.register()
    for name in ("a\0b", "a\nb", "\x1b[31m", "\ud800"):
        told = refusal(any_registry, "shardflow.parents", json.dumps([{"model": name}]))
        assert "(shardflow.parents names no parents" in told


def test_a_note_loses_what_not_every_database_keeps(any_registry: Registry) -> None:
    any_registry.register()
    tag(any_registry, "shardflow.deployment", json.dumps({"target": "eu", "note": "a\0b\x1b\nschön\u00a0so"}))
    (deployed,) = deployments_of(any_registry.store)
    assert deployed.note == "a\ufffdb\ufffd\nschön\u00a0so"


def test_a_refused_tag_is_in_the_history_whatever_its_name_holds(any_registry: Registry) -> None:
    any_registry.register()
    for key in ("shardflow.x\0y", "shardflow.statement.\0", "shardflow.\ud800"):
        with pytest.raises(MlflowException):
            tag(any_registry, key, "x\0")
        row = any_registry.trail()[-1]
        assert (row.action, row.outcome) == ("tag", "refused")
        assert row.after == key.replace("\0", "\ufffd").replace("\ud800", "\ufffd")
    assert any_registry.verified().flaws == ()


def test_a_copy_of_a_version_with_a_number_that_none_has_is_refused_as_mlflow_does(any_registry: Registry) -> None:
    any_registry.register()
    for number in (10**9, 10**12, 10**30):
        with pytest.raises(MlflowException, match="Unable to fetch model"):
            any_registry.store.create_model_version("llama", f"models:/llama/{number}")
