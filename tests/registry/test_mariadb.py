"""The same registry in MariaDB, for `shardflow-mysql://`: there `Bert` equals `bert`, and no transaction makes tables.

One database for all of it: MLflow takes a quarter of a minute to make its tables.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import insert, text
from sqlalchemy.exc import DBAPIError

from registry.opened import Registry, Rules, opened
from registry.test_concurrency import AT_ONCE, promotions, together
from registry.test_contract import CALLS, answer
from shardflow.registry import tables
from shardflow.registry.lineage_search import relatives
from shardflow.registry.parents import edges_down, edges_up
from shardflow.registry.store import ShardflowRegistryStore
from shardflow.registry.tables import PARENTS

if TYPE_CHECKING:
    from services.mariadb import MariaDb

STEPS = range(2, 1502)

pytestmark = [pytest.mark.slow, pytest.mark.service("mariadb")]


@pytest.fixture(scope="module")
def registry(mariadb: MariaDb) -> Iterator[Registry]:
    with opened(mariadb.new_database()) as made:
        yield made


def test_each_call_is_answered_as_mlflows_store_answers_it(
    registry: Registry, stock_store: SqlAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    for number, call in enumerate(CALLS):
        ours, stock = answer(call, registry.store), answer(call, stock_store)
        both_refuse = isinstance(ours, tuple) and isinstance(stock, tuple)  # whose words depend on the database
        assert both_refuse or ours == stock, f"call {number}"
    assert registry.verified().flaws == ()


def test_of_fifty_versions_promoted_at_once_one_serves(registry: Registry) -> None:
    versions = registry.register(versions=AT_ONCE)
    for version in versions:
        registry.promote("llama", version, "staging")
    assert together(promotions(registry, versions)) == [None] * AT_ONCE
    assert Counter(registry.statuses().values()) == {"production": 1, "archived": AT_ONCE - 1}
    assert registry.verified().flaws == ()


def test_a_tag_in_other_letters_does_not_make_a_model_a_prompt(registry: Registry) -> None:
    tag = RegisteredModelTag("MLFLOW.PROMPT.IS_PROMPT", "true")
    registry.store.create_registered_model("shouted", tags=[tag])
    registry.store.create_model_version("shouted", "file:///model")
    with pytest.raises(MlflowException, match="Move it to staging first"):
        registry.store.transition_model_version_stage("shouted", 1, "Production", False)
    with pytest.raises(MlflowException, match="Register a prompt under a name of its own"):
        registry.store.set_registered_model_tag("shouted", tag)


@pytest.mark.parametrize("alias", ["prodüction", "Production", "\uff50roduction", "V1-4-0", "v1-4-\uff10"])
def test_an_alias_that_equals_one_of_the_registry_there_moves_nothing(registry: Registry, alias: str) -> None:
    name = f"spelt-{alias.encode().hex()}"
    registry.register(name, versions=2)
    registry.store.set_model_version_tag(name, 1, ModelVersionTag("shardflow.version", "1.4.0"))
    registry.promote(name, 1, "staging", "production")
    for change in (
        lambda: registry.store.set_registered_model_alias(name, alias, 2),
        lambda: registry.store.delete_registered_model_alias(name, alias),
    ):
        with pytest.raises(MlflowException):
            change()
        assert registry.store.get_registered_model(name).aliases == {"production": 1, "v1-4-0": 1}


def test_a_tag_that_equals_that_of_the_status_there_changes_nothing(registry: Registry) -> None:
    registry.register("tagged")
    with pytest.raises(MlflowException, match="Use a name that does not begin with"):
        registry.store.set_model_version_tag("tagged", 1, ModelVersionTag("shârdflow.status", "production"))
    assert registry.version("tagged", 1).tags == {"shardflow.status": "draft"}


@pytest.fixture(scope="module")
def bert(registry: Registry) -> Registry:
    """With a model whose first version is in staging, and what could be moved, copied or deleted."""
    registry.register("bert", versions=2)
    registry.register("other")
    registry.promote("bert", 1, "staging")
    return registry


SPELLINGS = ["BERT", "b\u00e9rt", "bert "]
BY_ANOTHER_NAME: dict[str, Callable[[ShardflowRegistryStore, str], object]] = {
    "a version": lambda store, name: store.create_model_version(name, "s3://bucket/evil"),
    "a version of what is there": lambda store, name: store.create_model_version(name, "models:/other/1"),
    "a copy of it": lambda store, name: store.create_model_version("other", f"models:/{name}/1"),
    "a child of it": lambda store, name: store.set_model_version_tag(
        "other", 1, ModelVersionTag("shardflow.parents", json.dumps([{"model": name, "version": 1}]))
    ),
    "a stage": lambda store, name: store.transition_model_version_stage(name, 1, "Production", False),
    "the alias of a status": lambda store, name: store.set_registered_model_alias(name, "production", 1),
    "an alias": lambda store, name: store.set_registered_model_alias(name, "champion", 1),
    "no alias": lambda store, name: store.delete_registered_model_alias(name, "champion"),
    "a status": lambda store, name: store.set_model_version_tag(name, 1, ModelVersionTag("shardflow.status", "draft")),
    "a number": lambda store, name: store.set_model_version_tag(name, 1, ModelVersionTag("shardflow.version", "1.0.0")),
    "words": lambda store, name: store.update_model_version(name, 1, "words"),
    "words about the model": lambda store, name: store.update_registered_model(name, "words"),
    "another name": lambda store, name: store.rename_registered_model(name, "sandbox"),
    "no version": lambda store, name: store.delete_model_version(name, 2),
    "nothing": lambda store, name: store.delete_registered_model(name),
}


@pytest.mark.parametrize("what", BY_ANOTHER_NAME)
def test_a_model_whose_name_is_typed_in_other_letters_is_given_nothing_by_it(bert: Registry, what: str) -> None:
    for name in SPELLINGS:
        before, rows = (bert.statuses("bert"), bert.store.get_registered_model("bert").aliases), len(bert.trail())
        with pytest.raises(MlflowException, match=r"Write (models:/)?bert") as refused:
            BY_ANOTHER_NAME[what](bert.store, name)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
        assert (bert.statuses("bert"), bert.store.get_registered_model("bert").aliases) == before
        (noted,) = bert.trail()[rows:]
        assert noted.outcome == "refused"
        assert noted.model in {"bert", "other"}
    assert bert.verified().flaws == ()


def test_what_a_copy_to_a_name_in_other_letters_is_told_names_the_model(bert: Registry) -> None:
    with pytest.raises(MlflowException, match="Write bert"):
        bert.store.copy_model_version(bert.version("other", 1), "Bert")
    assert len(bert.statuses("bert")) == 2


def test_a_version_that_came_under_another_spelling_before_is_judged_by_the_name_of_its_model(
    mariadb: MariaDb,
) -> None:
    rules = Rules(lambda move, _: "evaluate it" if move.model == "llama-prod" else None)
    with opened(mariadb.new_database(), rules) as registry:
        registry.register("llama-prod")
        with registry.store.engine.begin() as db:
            for table in ("model_versions", "shardflow_versions", "model_version_tags"):
                column = "model" if table.startswith("shardflow") else "name"
                db.execute(text(f"UPDATE {table} SET {column} = 'Llama-PROD'"))
        assert registry.version("llama-prod", 1).name == "Llama-PROD"
        for move in (
            lambda: registry.promote("llama-prod", 1, "staging"),
            lambda: registry.store.transition_model_version_stage("llama-prod", 1, "Staging", False),
            lambda: registry.store.set_registered_model_alias("llama-prod", "staging", 1),
        ):
            with pytest.raises(MlflowException, match="Evaluate it"):
                move()
        rules.against = lambda _move, _facts: None
        registry.promote("llama-prod", 1, "staging", "production")
        assert registry.store.get_model_version_by_alias("llama-prod", "production").current_stage == "Production"
        assert registry.trail()[-1].model == "llama-prod"


def test_a_long_line_of_descent_is_not_cut_short(registry: Registry) -> None:
    ends = [{"child_model": "line", "child_version": n, "parent_model": "line", "parent_version": n - 1} for n in STEPS]
    with registry.store.engine.begin() as connection:
        connection.execute(insert(PARENTS), [{**one, "relation": "base"} for one in ends])
        assert len(edges_up(connection, "line", STEPS[-1])) == len(STEPS)
        assert len(edges_down(connection, "line", 1)) == len(STEPS)


def test_a_line_goes_on_through_models_with_longer_names(registry: Registry) -> None:
    names = ["a", "a-longer-name", "a-name-that-is-longer-than-that"]
    for name in names:
        registry.register(name)
    ends = [
        {"child_model": child, "child_version": 1, "parent_model": parent, "parent_version": 1, "relation": "base"}
        for child, parent in pairwise(names)
    ]
    with registry.store.engine.begin() as connection:
        connection.execute(insert(PARENTS), ends)
    for name in names:
        with registry.store.ManagedSessionMaker() as session:
            assert [one.name for one in relatives(session, name, 1)] == names


@pytest.mark.parametrize("statement", ["UPDATE shardflow_audit SET actor = 'eve'", "DELETE FROM shardflow_audit"])
def test_the_database_itself_refuses_to_change_rows(registry: Registry, statement: str) -> None:
    with registry.store.engine.connect() as connection, pytest.raises(DBAPIError, match="never changed or removed"):
        connection.execute(text(statement))
    assert registry.verified().flaws == ()


def test_a_server_that_died_while_it_made_the_tables_is_followed_by_one_that_ends_it(registry: Registry) -> None:
    with registry.store.engine.begin() as connection:
        connection.execute(text("DELETE FROM shardflow_schema"))
        connection.execute(text("DROP TABLE shardflow_deployments"))
    head = registry.verified().head
    tables.prepare(registry.store.engine)
    assert registry.verified().head == head
