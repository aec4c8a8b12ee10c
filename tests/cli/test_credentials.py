"""Credentials that a server refuses, or that are none: one line says which to set, and nothing is written anywhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.conftest import Command, the_line
from services import azurite
from services.fixtures import fresh_url
from services.service import Service
from shardflow.store.store import Store

COMMANDS = {"put": ("put", "FILE", "URL/new"), "get": ("get", "URL/stored", "OUT"), "ls": ("ls", "URL")}
ANOTHER_KEY = base64.b64encode(bytes(64)).decode()
S3_REMEDY = "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
AZURE_REMEDY = "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"


@dataclass(frozen=True)
class Guarded:
    """A store with one file in it, on a server that checks signatures."""

    store: Store
    service: Service

    @property
    def url(self) -> str:
        return str(self.store.url)


def guarded(service: Service, file: Path) -> Guarded:
    store = Store.init(fresh_url(service), options=service.options)
    store.put(file, "stored")
    return Guarded(store, service)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"some content")
    return file


@pytest.fixture
def on_s3(ceph: Service, file: Path) -> Guarded:
    return guarded(ceph, file)


@pytest.fixture
def on_azure(azure: Service, file: Path) -> Guarded:
    return guarded(azure, file)


def refused(process: Command, place: Guarded, tmp_path: Path, command: str, env: Mapping[str, str]) -> str:
    """What the command says; it has failed, and changed nothing here or there."""
    names = {"FILE": str(tmp_path / "file"), "OUT": str(tmp_path / "out")}
    words = [names.get(word, word.replace("URL", place.url)) for word in COMMANDS[command]]
    outcome = process(*words, **env)
    assert outcome.code == 1
    assert not (tmp_path / "out").exists()
    assert [entry.path for entry in place.store.ls()] == ["stored"]
    return the_line(outcome)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_secret_is_refused_by_s3(process: Command, on_s3: Guarded, tmp_path: Path, command: str) -> None:
    line = refused(process, on_s3, tmp_path, command, {**on_s3.service.env, "AWS_SECRET_ACCESS_KEY": "guessed"})
    assert f"in {on_s3.url}" in line
    assert f"at {on_s3.service.endpoint}: 403 Forbidden (SignatureDoesNotMatch)" in line
    assert line.endswith(S3_REMEDY)
    assert "guessed" not in line


def test_a_key_that_s3_does_not_know_is_refused(process: Command, on_s3: Guarded, tmp_path: Path) -> None:
    line = refused(process, on_s3, tmp_path, "ls", {**on_s3.service.env, "AWS_ACCESS_KEY_ID": "nobody"})
    assert "403 Forbidden (InvalidAccessKeyId)" in line
    assert line.endswith(S3_REMEDY)


def test_half_of_a_key_pair_is_told_as_that(process: Command, on_s3: Guarded, tmp_path: Path) -> None:
    line = refused(process, on_s3, tmp_path, "ls", {**on_s3.service.env, "AWS_SECRET_ACCESS_KEY": ""})
    assert "no credentials" in line
    assert line.endswith(S3_REMEDY)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_key_is_refused_by_azure(process: Command, on_azure: Guarded, tmp_path: Path, command: str) -> None:
    line = refused(process, on_azure, tmp_path, command, with_key(on_azure.service, ANOTHER_KEY))
    assert f"in {on_azure.url}" in line
    assert f"at {on_azure.service.endpoint}: 403 Forbidden (AuthorizationFailure)" in line
    assert line.endswith(f"; {AZURE_REMEDY}")
    assert ANOTHER_KEY not in line


def test_a_key_that_is_none_is_not_sent_to_azure(process: Command, on_azure: Guarded, tmp_path: Path) -> None:
    line = refused(process, on_azure, tmp_path, "ls", with_key(on_azure.service, "not base64!"))
    assert "Invalid Access Key" in line
    assert line.endswith(f"; correct them, or {AZURE_REMEDY}")


def with_key(service: Service, key: str) -> dict[str, str]:
    return {name: text.replace(azurite.KEY, key) for name, text in service.env.items()}
