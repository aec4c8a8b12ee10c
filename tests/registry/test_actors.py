"""Who did it: the user whom the server checked, or whoever the client says it is, which counts for less."""

from __future__ import annotations

import base64
import getpass
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask import Flask, g
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry.live import Live, running
from registry.rest import post
from shardflow.cli.app import commands
from shardflow.registry.actors import HEADER, LONGEST_NAME, UserHeader, current_actor
from shardflow.registry.terms import Actor

ADMIN, PASSWORD = "admin", "a long password for tests"
VERIFIED_ONLY = "rules: [{to: production, require: {verified_identity: true}}]\n"
SETTINGS = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{home}/users.db
admin_username = {admin}
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


def basic(user: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{PASSWORD}'.encode()).decode()}"


@pytest.fixture
def app() -> Flask:
    return Flask("server")


def test_without_a_request_it_is_the_user_of_this_process_unverified() -> None:
    assert current_actor() == Actor(getpass.getuser())


def test_the_user_whom_the_server_checked_is_verified_whatever_the_client_says(app: Flask) -> None:
    with app.test_request_context(headers={HEADER: "eve"}):
        g.mlflow_authenticated_user = "ada"
        assert current_actor() == Actor("ada", verified=True)


def test_a_password_that_nobody_checked_makes_nobody_verified(app: Flask) -> None:
    with app.test_request_context(headers={"Authorization": basic("ada")}):
        assert current_actor() == Actor("ada", verified=False)


def test_a_client_without_a_word_is_known_by_its_address(app: Flask) -> None:
    with app.test_request_context(environ_base={"REMOTE_ADDR": "10.0.0.7"}):
        assert current_actor() == Actor("somebody at 10.0.0.7")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [("J%C3%B6rg%20M", "Jörg M"), ("a%0Ab%1b%5B2J", "a?b?[2J"), ("x" * 1000, "x" * LONGEST_NAME), ("%ff", "\ufffd")],
)
def test_a_name_is_shown_on_one_line_of_a_table_whatever_is_in_it(app: Flask, sent: str, shown: str) -> None:
    with app.test_request_context(headers={HEADER: sent}):
        assert current_actor() == Actor(shown)


def test_a_name_reaches_the_server_as_it_is(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "Jörg\nMüller")
    header = UserHeader()
    assert header.in_context()
    with app.test_request_context(headers=header.request_headers()):
        assert current_actor() == Actor("Jörg?Müller")


@pytest.mark.parametrize("trouble", [KeyError("no such uid"), OSError("no user")])
def test_a_user_without_a_name_is_no_trouble(trouble: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise trouble

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert current_actor() == Actor("unknown")


@pytest.fixture(scope="module")
def guarded(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with MLflow's basic-auth, of which ada and eve are users; who is not signed in may move little."""
    home = tmp_path_factory.mktemp("guarded")
    settings = home / "auth.ini"
    settings.write_text(SETTINGS.format(home=home, admin=ADMIN, password=PASSWORD))
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of the tests"}
    database = f"sqlite:///{shutil.copy(empty_database, home / 'mlflow.db')}"
    with running(home, database, "--app-name", "basic-auth", policy=VERIFIED_ONLY, environment=environment) as live:
        for user in ("ada", "eve"):
            said = {"username": user, "password": PASSWORD}
            assert post(live, "users/create", said, Authorization=basic(ADMIN))[0] == 200
        yield live


@pytest.fixture
def signed_in(guarded: Live, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """MLflow's client, as ada uses it."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, guarded.uri)
    sign_in(monkeypatch, "ada")
    return guarded.client


def sign_in(monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)


@pytest.mark.slow
def test_with_basic_auth_the_user_of_the_request_is_who_did_it(
    guarded: Live, signed_in: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed_in.create_registered_model("llama")
    signed_in.create_model_version("llama", "s3://bucket/llama")
    signed_in.transition_model_version_stage("llama", "1", "Staging")
    signed_in.transition_model_version_stage("llama", "1", "Production")  # only for somebody the server has checked
    sign_in(monkeypatch, "eve")
    with pytest.raises(MlflowException, match="Permission denied"):
        signed_in.set_model_version_tag("llama", "1", "shardflow.status", "archived")
    signed_in.create_registered_model("bert")
    sign_in(monkeypatch, ADMIN)
    rows = [(row.actor, row.verified, row.action, row.model) for row in guarded.trail()]
    told = ["create", "create", "move", "move"]
    assert rows == [*(("ada", True, action, "llama") for action in told), ("eve", True, "create", "bert")]
    assert guarded.verified().flaws == ()
    sign_in(monkeypatch, "eve")
    assert [row.model for row in guarded.trail()] == ["bert"]
    told_of = CliRunner().invoke(commands, ["audit", "verify"])
    assert told_of.exit_code == 1
    assert "the server does not show you the whole of its history" in told_of.stderr
