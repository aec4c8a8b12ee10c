"""Every way around the gate that is known, through MLflow's client: refused, without a change, and in the trail."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.exceptions import MlflowException
from mlflow.tracking._model_registry import utils as registry_stores
from sqlalchemy import text

from registry.bypasses import BYPASSES, Bypass, prepare
from registry.opened import Registry, opened
from shardflow.registry import store as gated_store
from shardflow.registry.audit import entries
from shardflow.registry.claims import Claims
from shardflow.registry.parents import parents_of
from shardflow.registry.refusals import Refused
from shardflow.registry.registering import claims_at_birth


@pytest.fixture
def client(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """MLflow's own client, at work on the registry of the test."""
    return prepared_client(registry, monkeypatch)


@pytest.fixture(scope="module")
def guarded(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[MlflowClient, Registry]]:
    """The same for all attempts, since none of them may change anything."""
    path = shutil.copy(empty_database, tmp_path_factory.mktemp("guarded") / "mlflow.db")
    with opened(f"sqlite:///{path}") as registry, pytest.MonkeyPatch.context() as patches:
        yield prepared_client(registry, patches), registry


def prepared_client(registry: Registry, patches: pytest.MonkeyPatch) -> MlflowClient:
    patches.setattr(registry_stores, "_get_store", lambda *_: registry.store)
    client = MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)
    prepare(client)
    return client


@pytest.mark.parametrize("bypass", BYPASSES, ids=lambda bypass: bypass.name)
def test_a_way_around_the_gate_is_refused_changes_nothing_and_is_in_the_trail(
    guarded: tuple[MlflowClient, Registry], bypass: Bypass
) -> None:
    client, registry = guarded
    before, rows = (registry.statuses(), shown(registry)), len(registry.trail())
    with pytest.raises(MlflowException) as refused:
        bypass.attempt(client)
    assert refused.value.message.startswith(bypass.answer)
    assert refused.value.error_code in {"PERMISSION_DENIED", "RESOURCE_CONFLICT", "INVALID_PARAMETER_VALUE"}
    assert (registry.statuses(), shown(registry)) == before
    (noted,) = registry.trail()[rows:]
    assert (noted.action, noted.outcome) == (bypass.action, "refused")
    assert registry.verified().flaws == ()


def shown(registry: Registry) -> list[tuple[object, ...]]:
    """What MLflow shows of the model."""
    found = registry.store.search_model_versions("name = 'llama'")
    model = registry.store.get_registered_model("llama")
    versions = sorted((int(one.version), one.current_stage, sorted(one.tags.items())) for one in found)
    return [*versions, (sorted(model.aliases.items()), sorted(model.tags.items()))]


def test_a_copy_begins_anew_and_knows_what_it_is_a_copy_of(client: MlflowClient, registry: Registry) -> None:
    client.set_model_version_tag("llama", "1", "shardflow.version", "2.0.0")
    client.set_model_version_tag("llama", "1", "team", "x")
    copy = client.copy_model_version("models:/llama/1", "served")
    assert copy.current_stage == "None"
    assert copy.tags == {"team": "x", "shardflow.status": "draft"}
    assert registry.statuses("served") == {1: "draft"}
    with registry.store.engine.connect() as connection:
        (edge,) = parents_of(connection, "served", 1)
    assert (edge.parent_model, edge.parent_version, edge.relation) == ("llama", 1, "copy")


def test_a_client_that_registers_a_copy_with_all_tags_of_the_original_gets_a_draft(
    client: MlflowClient, registry: Registry
) -> None:
    """As the client of a server does it."""
    original = registry.version("llama", 1)
    client.create_registered_model("served")
    made = client.create_model_version("served", "models:/llama/1", tags=original.tags)
    assert (made.current_stage, made.tags["shardflow.status"]) == ("None", "draft")


def test_a_name_in_the_lineage_of_others_is_not_set_free(client: MlflowClient, registry: Registry) -> None:
    client.copy_model_version("models:/llama/1", "served")
    for version in ("1", "2"):
        client.transition_model_version_stage("llama", version, "Archived")
    with pytest.raises(MlflowException, match=r"Delete served/1 first \(it was made from llama/1\)"):
        client.delete_registered_model("llama")
    client.delete_registered_model("served")
    client.delete_registered_model("llama")
    assert registry.facts("llama") == {}


def test_what_is_known_of_a_model_goes_with_its_new_name(client: MlflowClient, registry: Registry) -> None:
    client.set_model_version_tag("llama", "3", "shardflow.version", "1.0.0")
    client.copy_model_version("models:/llama/3", "child")
    for version in ("1", "2"):
        client.transition_model_version_stage("llama", version, "Archived")
    client.rename_registered_model("llama", "alpaca")
    assert registry.statuses("alpaca") == {1: "archived", 2: "archived", 3: "draft"}
    assert client.get_model_version_by_alias("alpaca", "v1-0-0").version == 3
    with registry.store.engine.connect() as connection:
        assert parents_of(connection, "child", 1)[0].parent_model == "alpaca"
        story = entries(connection, "alpaca", 1)
    assert [row.action for row in story][-1] == "rename"
    assert ("move", "llama") in {(row.action, row.model) for row in story}


def test_what_served_under_one_name_does_not_come_straight_to_production_under_another(
    client: MlflowClient, registry: Registry
) -> None:
    """The policy for the new name would not have heard of its way through staging."""
    for version in ("1", "2"):
        client.transition_model_version_stage("llama", version, "Archived")
    client.rename_registered_model("llama", "alpaca")
    with pytest.raises(MlflowException, match="Move it to staging first"):
        client.transition_model_version_stage("alpaca", "1", "Production")


def test_a_prompt_does_not_stop_being_one(client: MlflowClient, registry: Registry) -> None:
    with pytest.raises(MlflowException, match="Register a prompt under a name of its own"):
        registry.store.delete_registered_model_tag("ask", "mlflow.prompt.is_prompt")


def test_a_version_does_not_pass_for_a_prompt(client: MlflowClient, registry: Registry) -> None:
    tags = [ModelVersionTag("mlflow.prompt.is_prompt", "true")]
    with pytest.raises(MlflowException, match="Register a prompt under a name of its own"):
        registry.store.create_model_version("llama", "s3://bucket/llama", tags=tags)
    with pytest.raises(MlflowException, match="Register a prompt under a name of its own"):
        registry.store.set_model_version_tag("llama", 3, tags[0])
    assert [row.outcome for row in registry.trail()[-2:]] == ["refused", "refused"]


def with_a_prompt_meanwhile(registry: Registry, name: str, patches: pytest.MonkeyPatch) -> None:
    """Whoever looks at what a version says of itself finds a prompt of that name afterwards."""

    def looked(*given: Any) -> Claims:
        registry.store.create_registered_model(name, [RegisteredModelTag("mlflow.prompt.is_prompt", "true")])
        return claims_at_birth(*given)

    patches.setattr(gated_store, "claims_at_birth", looked)


@pytest.mark.parametrize(
    ("source", "answer"),
    [("s3://bucket/llama", "Register the model under another name"), ("dummy-source", "Try again")],
)
def test_a_prompt_that_is_registered_while_a_version_is_looked_at_gets_no_files(
    any_registry: Registry, monkeypatch: pytest.MonkeyPatch, source: str, answer: str
) -> None:
    with monkeypatch.context() as patches:
        with_a_prompt_meanwhile(any_registry, "llama", patches)
        with pytest.raises(MlflowException, match=answer):
            any_registry.store.create_model_version("llama", source)
    assert any_registry.store.search_model_versions("name = 'llama'") == []
    (noted,) = any_registry.trail()
    assert (noted.action, noted.model, noted.after, noted.outcome) == ("create", "llama", source, "refused")


def test_a_prompt_that_gives_way_to_a_model_while_its_version_is_looked_at_gets_none(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.store.create_registered_model("ask", [RegisteredModelTag("mlflow.prompt.is_prompt", "true")])

    def looked(*_: object) -> None:
        registry.store.delete_registered_model("ask")
        registry.store.create_registered_model("ask")

    monkeypatch.setattr(gated_store, "without_files", looked)
    with pytest.raises(MlflowException, match="Try again"):
        registry.store.create_model_version("ask", "dummy-source")
    assert registry.facts("ask") == {}


def test_a_version_with_files_below_a_prompt_from_before_that_was_refused_is_judged(any_registry: Registry) -> None:
    any_registry.register(versions=2)
    tag = "INSERT INTO registered_model_tags (workspace, name, key, value) VALUES ('default', 'llama', :key, 'true')"
    with any_registry.store.engine.begin() as db:
        db.execute(text(tag), {"key": "mlflow.prompt.is_prompt"})
    store = any_registry.store
    for attempt in (
        lambda: store.set_registered_model_alias("llama", "production", 1),
        lambda: store.set_registered_model_alias("llama", "Production", 1),
        lambda: store.transition_model_version_stage("llama", 1, "Production", False),
        lambda: any_registry.promote("llama", 1, "production"),
        lambda: store.set_model_version_tag("llama", 1, ModelVersionTag("shardflow.approved", "yes")),
        lambda: store.delete_model_version_tag("llama", 1, "shardflow.status"),
    ):
        rows = len(any_registry.trail())
        with pytest.raises(Refused):
            attempt()
        assert [row.outcome for row in any_registry.trail()[rows:]] == ["refused"]
    any_registry.promote("llama", 1, "staging", "production")
    for attempt in (
        lambda: store.delete_model_version("llama", 1),
        lambda: store.delete_registered_model("llama"),
        lambda: store.rename_registered_model("llama", "sandbox"),
    ):
        with pytest.raises(Refused, match="Archive llama/1 first"):
            attempt()
    any_registry.promote("llama", 1, "archived")
    store.delete_model_version("llama", 1)
    store.delete_registered_model("llama")
    assert any_registry.register() == [1]
    assert any_registry.verified().flaws == ()
