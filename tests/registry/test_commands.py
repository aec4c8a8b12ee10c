"""promote, history, audit and deploy, on a registry in a database that the client opens itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from mlflow import MlflowClient
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import text

from registry.opened import Registry
from registry.test_trail import without_triggers
from shardflow.cli.app import commands
from shardflow.registry import asking
from shardflow.registry.asking import head_told, stages_now

ALLOWS_ALL = "rules: []\n"


@pytest.fixture
def desk(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A shell whose MLflow is the registry of the test, with a model of two versions in it."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(ALLOWS_ALL)
    monkeypatch.setenv("SHARDFLOW_POLICY", str(policy))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", f"shardflow-{registry.uri}")
    registry.register(versions=2)
    return registry


def shardflow(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(commands, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_promote_moves_a_version_and_says_from_where_to_where(desk: Registry) -> None:
    said = shardflow("promote", "llama/1", "staging", "--reason", "looks good")
    assert said.stdout == "llama/1: draft -> staging\n"
    assert desk.statuses() == {1: "staging", 2: "draft"}
    assert desk.trail()[-1].reason == "looks good"
    document = json.loads(shardflow("promote", "llama@staging", "production", "--json").stdout)
    assert (document["version"], document["before"], document["after"]) == (1, "staging", "production")


def test_promote_tells_a_refusal_in_one_line_and_fails(desk: Registry) -> None:
    said = shardflow("promote", "llama/2", "production", code=1)
    reason = "llama/2 is in draft, and there is no way from there to production"
    assert said.stderr == f"shardflow: Move it to staging first ({reason})\n"
    assert desk.statuses() == {1: "draft", 2: "draft"}


def test_promote_names_what_is_not_there(desk: Registry) -> None:
    assert "there is no llama/9" in shardflow("promote", "llama/9", "staging", code=1).stderr
    shardflow("promote", "llama/1", "live", code=2)


def test_history_shows_who_did_what_and_what_was_refused(desk: Registry) -> None:
    shardflow("promote", "llama/1", "staging", "--reason", "looks good")
    shardflow("promote", "llama/1", "draft", code=1)
    lines = shardflow("history", "llama/1").stdout.splitlines()
    assert lines[0].split() == ["when", "who", "version", "what", "outcome"]
    assert "(?)" in lines[1]
    assert "move draft -> staging" in lines[-2]
    assert "looks good" in lines[-2]
    assert "refused" in lines[-1]
    assert "Move it to testing first" in lines[-1]
    rows = [json.loads(line) for line in shardflow("history", "llama", "--json").stdout.splitlines()]
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert shardflow("history", "nobody").stdout == "nothing is known of nobody\n"


def test_audit_finds_nothing_in_a_trail_that_is_whole_and_gives_a_row_to_note(desk: Registry) -> None:
    document = json.loads(shardflow("audit", "verify", "--json").stdout)
    assert (document["ok"], document["rows"], document["flaws"]) == (True, 3, [])
    shardflow("promote", "llama/1", "staging")
    assert shardflow("audit", "verify", "--since", document["last"]).stdout.startswith("sound: 4 rows")


def test_audit_names_the_row_that_was_edited_and_fails(desk: Registry) -> None:
    with desk.store.engine.begin() as connection:
        without_triggers(connection)
        connection.execute(text("UPDATE shardflow_audit SET actor = 'eve' WHERE seq = 2"))
    said = shardflow("audit", "verify", code=1).stdout
    assert "row 2: was edited" in said
    assert "NOT SOUND" in said


def test_audit_finds_a_version_that_was_moved_around_the_registry(desk: Registry) -> None:
    with desk.store.engine.begin() as connection:
        connection.execute(text("UPDATE model_versions SET current_stage = 'Production' WHERE version = 2"))
    said = shardflow("audit", "verify", code=1).stdout
    assert "llama/2 is in Production, and the trail says draft" in said


def test_deployments_are_recorded_listed_and_looked_up_for_any_moment(desk: Registry) -> None:
    shardflow("deploy", "record", "llama/1", "eu-west", "--at", "2026-01-01T00:00+00:00")
    shardflow("deploy", "record", "llama/2", "eu-west", "--at", "2026-02-01T00:00+00:00", "--outcome", "failed")
    shardflow("deploy", "record", "llama/2", "eu-west", "--at", "2026-03-01T00:00+00:00", "--note", "second try")
    shardflow("deploy", "record", "llama/1", "edge", "--at", "2026-01-15T00:00+00:00")
    shardflow("deploy", "record", "llama/1", "edge", "--at", "2026-02-15T00:00+00:00", "--outcome", "removed")

    def ran(at: str) -> set[tuple[str, int]]:
        found = [json.loads(line) for line in shardflow("deploy", "list", "--at", at, "--json").stdout.splitlines()]
        return {(one["target"], one["version"]) for one in found}

    assert ran("2025-12-31T00:00+00:00") == set()
    assert ran("2026-02-02T00:00+00:00") == {("eu-west", 1), ("edge", 1)}
    assert ran("2026-02-20T00:00+00:00") == {("eu-west", 1)}
    assert ran("2026-03-01T00:00+00:00") == {("eu-west", 2)}
    assert len(shardflow("deploy", "list", "llama/2").stdout.splitlines()) == 3
    assert "second try" in shardflow("deploy", "list", "--target", "eu-west").stdout
    assert desk.trail()[-1].action == "tag"


def test_a_rollback_goes_to_what_ran_there_before_and_is_itself_recorded(desk: Registry) -> None:
    shardflow("deploy", "record", "llama/1", "eu-west")
    assert "no other version" in shardflow("deploy", "rollback", "llama", "eu-west", code=1).stderr
    shardflow("deploy", "record", "llama/2", "eu-west")
    assert shardflow("deploy", "rollback", "llama", "eu-west").stdout == "llama/1 at eu-west: rolled back\n"
    assert "llama/1" in shardflow("deploy", "list", "--running").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["record", "llama/1", "eu", "--at", "yesterday"], 2, "is no time such as"),
        (["record", "llama/1", "eu", "--at", "2099-01-01"], 1, "a deployment has a time in the past"),
        (["record", "llama/1", " "], 1, "a target has a name"),
        (["record", "llama/7", "eu"], 1, "there is no llama/7"),
    ],
)
def test_a_deployment_that_makes_no_sense_is_refused(
    desk: Registry, arguments: list[str], code: int, said: str
) -> None:
    assert said in shardflow("deploy", *arguments, code=code).stderr
    assert shardflow("deploy", "list").stdout == "no deployments\n"


def test_a_registry_of_mlflows_own_is_told_so_and_left_alone(
    desk: Registry, stock_store: SqlAlchemyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock_store.create_registered_model("llama")
    stock_store.create_model_version("llama", "file:///model")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", stock_store.db_uri)
    for command in (["promote", "llama/1", "staging"], ["history", "llama"], ["deploy", "record", "llama/1", "eu"]):
        assert "the registry keeps no history: it is MLflow's own" in shardflow(*command, code=1).stderr
    assert stock_store.get_model_version("llama", 1).tags == {}


def test_a_version_that_is_changed_while_all_are_listed_is_not_passed_over(
    desk: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`audit verify` would not look at it."""
    client, to_change = MlflowClient(desk.uri, f"shardflow-{desk.uri}"), ["1"]
    desk.register(versions=4)
    monkeypatch.setattr(asking, "PAGE", 2)
    search = MlflowClient.search_model_versions

    def others_change_one(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        found = search(client, *arguments, **named)
        if to_change:
            client.update_model_version("llama", to_change.pop(), "described")
        return found

    monkeypatch.setattr(MlflowClient, "search_model_versions", others_change_one)
    assert sorted(number for _, number in stages_now(client)) == [1, 2, 3, 4, 5, 6]


def test_audit_is_not_misled_by_what_happens_while_it_reads(desk: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    def told_late(client: object) -> object:
        if desk.statuses()[1] == "draft":
            desk.promote("llama", 1, "staging")
        return head_told(client)

    monkeypatch.setattr(asking, "head_told", told_late)
    assert shardflow("audit", "verify").stdout.startswith("sound: 4 rows")
    moves = iter(["production"])

    def looked_up_late(client: object) -> object:
        for status in moves:
            desk.promote("llama", 1, status)
        return stages_now(client)

    monkeypatch.setattr(asking, "stages_now", looked_up_late)
    assert shardflow("audit", "verify").stdout.startswith("sound: 4 rows")
