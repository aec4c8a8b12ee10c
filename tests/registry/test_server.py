"""The registry behind a live server: MLflow's client, plain REST and the commands all meet the same gate."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from registry.as_requests import AS_REQUESTS, CODES, ONLY_AS_REQUESTS, Refused
from registry.bypasses import BYPASSES, Bypass, prepare
from registry.live import Live, running
from registry.opened import opened
from registry.rest import post
from registry.test_concurrency import AT_ONCE, together
from services.mlflow_commands import mlflow_says
from services.mlflow_server import QUIET
from services.process import free_port
from shardflow.cli.app import commands
from shardflow.registry.actors import HEADER, local_user
from shardflow.registry.asking import head_told, trail_of

pytestmark = pytest.mark.slow

APIS = ["api", "ajax-api"]
"""What programs send, and what MLflow's pages send."""

KNOWN = {one.name: Refused(AS_REQUESTS[one.name], one.answer, one.action) for one in BYPASSES} | ONLY_AS_REQUESTS


@pytest.fixture(scope="module")
def live(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    home = tmp_path_factory.mktemp("server")
    with running(home, f"sqlite:///{shutil.copy(empty_database, home / 'mlflow.db')}") as live:
        prepare(live.client)
        yield live


@pytest.mark.parametrize("bypass", BYPASSES, ids=lambda bypass: bypass.name)
def test_a_way_around_the_gate_is_refused_by_the_server_and_is_in_the_trail(live: Live, bypass: Bypass) -> None:
    before = live.stages("llama")
    with pytest.raises(MlflowException) as refused:
        bypass.attempt(live.client)
    assert bypass.answer in refused.value.message
    assert live.stages("llama") == before
    last = live.trail()[-1]
    assert (last.action, last.outcome, last.actor, last.verified) == (bypass.action, "refused", local_user(), False)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", KNOWN)
def test_a_request_around_the_gate_is_refused_changes_no_row_and_adds_one_to_the_trail(
    live: Live, name: str, api: str
) -> None:
    known, before, head = KNOWN[name], contents(live), head_told(live.client)
    assert head
    status, answer = post(live, known.request.path, known.request.body, known.request.method, api=api)
    assert (status, answer["error_code"]) == (known.request.status, CODES[known.request.status])
    assert answer["message"].startswith(known.answer)
    assert contents(live) == before
    (noted,) = trail_of(live.client, after=head.seq)
    assert (noted.action, noted.outcome) == (known.action, "refused")
    assert (noted.actor, noted.verified) == ("somebody at 127.0.0.1", False)
    assert json.loads(noted.evidence or "{}")["answer"] == answer["message"]


def contents(live: Live) -> dict[str, list[Any]]:
    """All rows of all tables, except for the trail."""
    with closing(sqlite3.connect(live.server.database.removeprefix("sqlite:///"))) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        left_out = {"shardflow_audit", "shardflow_audit_head"}
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in tables - left_out}


def test_a_change_asked_for_in_graphql_is_no_word_that_the_server_knows(live: Live) -> None:
    before = contents(live)
    wanted = 'mutation { mlflowTransitionModelVersionStage(input: {name: "llama"}) { modelVersion { name } } }'
    status, answer = post(live, "/graphql", {"query": wanted, "operationName": None})
    assert (status, contents(live)) == (200, before)
    assert "Cannot query field" in answer["errors"][0]


def test_a_workspace_that_a_request_names_is_refused(live: Live) -> None:
    before = contents(live)
    status, answer = post(live, "registered-models/create", {"name": "elsewhere"}, **{"X-MLFLOW-WORKSPACE": "other"})
    assert (status, answer["error_code"]) == (500, "FEATURE_DISABLED")  # so says MLflow
    assert contents(live) == before


def test_a_server_for_several_workspaces_says_in_a_line_why_it_does_not_start(
    empty_database: Path, tmp_path: Path
) -> None:
    database = f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"
    command = ["server", "--enable-workspaces", "--port", str(free_port())]
    command += ["--backend-store-uri", database, "--registry-store-uri", f"shardflow-{database}"]
    code, said = mlflow_says(command, tmp_path / "log", QUIET)
    assert code == 1
    assert "start the server without --enable-workspaces" in said


def test_what_a_client_says_of_its_user_is_noted_as_unverified_and_made_harmless(live: Live) -> None:
    body = {"name": "llama", "version": "3", "key": "shardflow.status", "value": "nothing"}
    post(live, "model-versions/set-tag", body, **{HEADER: "eve%0A%1b[31m"})
    last = live.trail()[-1]
    assert (last.actor, last.verified) == ("eve??[31m", False)


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("model-versions/transition-stage", "POST", {"name": "llama", "version": "3; DROP", "stage": "Staging"}),
        ("model-versions/transition-stage", "POST", {"name": "llama", "version": "3", "stage": "Live"}),
        ("model-versions/set-tag", "POST", {"name": "llama", "version": "3", "key": "shardflow.parents", "value": "{"}),
        ("model-versions/set-tag", "POST", {"name": "llama", "version": "3", "key": "shardflow.version", "value": ""}),
        ("model-versions/set-tag", "POST", {"name": "llama", "version": "3", "key": "shardflow.status", "value": "\0"}),
        ("model-versions/set-tag", "POST", {"name": "a\0b", "version": "3", "key": "shardflow.x", "value": "y"}),
        ("registered-models/alias", "POST", {"name": "llama", "alias": "production", "version": "-1"}),
        ("registered-models/alias", "POST", {"name": "nobody", "alias": "production", "version": "1"}),
        ("model-versions/delete", "DELETE", {"name": "llama", "version": "999999999999999999999"}),
    ],
)
def test_a_hostile_request_gets_an_answer_of_one_line_and_no_page(
    live: Live, path: str, method: str, body: dict[str, Any]
) -> None:
    status, answer = post(live, path, body, method)
    assert 400 <= status < 500, answer
    assert len(answer["message"]) < 1000
    assert "Traceback" not in answer["message"]


def test_the_commands_work_through_the_server(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", live.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", live.uri)
    live.client.create_registered_model("bert")
    live.client.create_model_version("bert", "s3://bucket/bert", tags={"shardflow.version": "1.4.2"})
    for arguments, said in (
        (["promote", "bert/1.4.2", "staging", "--reason", "good"], "bert/1: draft -> staging"),
        (["deploy", "record", "bert/1", "eu-west"], "bert/1 at eu-west: succeeded"),
        (["deploy", "list", "--running"], "eu-west"),
        (["history", "bert"], "move draft -> staging"),
        (["audit", "verify"], "sound: "),
    ):
        result = CliRunner().invoke(commands, arguments)
        assert result.exit_code == 0, result.output
        assert said in result.stdout
    refused = CliRunner().invoke(commands, ["promote", "bert/1", "draft"])
    assert refused.exit_code == 1
    assert "Move it to testing first" in refused.stderr
    assert live.client.get_model_version_by_alias("bert", "v1-4-2").current_stage == "Staging"


def test_of_fifty_versions_promoted_at_once_through_the_server_one_serves(live: Live) -> None:
    with opened(live.server.database) as beside:  # quicker than a hundred requests
        versions = beside.register("gemma", versions=AT_ONCE)
        for version in versions:
            beside.promote("gemma", version, "staging")

    def promotion(version: int) -> None:
        body = {"name": "gemma", "version": str(version), "stage": "Production", "archive_existing_versions": True}
        assert post(live, "model-versions/transition-stage", body)[0] == 200

    assert together([partial(promotion, version) for version in versions]) == [None] * AT_ONCE
    assert Counter(live.stages("gemma").values()) == {"Production": 1, "Archived": AT_ONCE - 1}
    assert live.verified().flaws == ()


def test_a_long_trail_comes_in_pages(live: Live) -> None:
    first = live.client.search_model_versions("shardflow.history = '*'", max_results=2)
    second = live.client.search_model_versions("shardflow.history = '*'", max_results=2, page_token=first.token)
    seqs = [json.loads(one.tags["shardflow.row"])["seq"] for one in [*first, *second]]
    assert seqs == [1, 2, 3, 4]
