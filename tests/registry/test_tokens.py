"""Keys in hardware: what they sign counts like what keys on disk sign, and what is wrong with one is told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from mlflow.exceptions import MlflowException

from registry.logged import Place, own_place
from registry.policies import key_entry
from shardflow.cli.app import commands
from shardflow.registry.evidence_digests import files_of
from shardflow.registry.evidence_statements import StatementRefused, checked, stated
from shardflow.registry.keys import KeyUnusable, public_key, public_pem, signer
from shardflow.registry.tokens import TokenUnusable

if TYPE_CHECKING:
    from services.softhsm import Token

RULES = """\
rules:
- to: staging
  require: {approvals: {count: 1}}
- to: production
  require: {signature: {by: hardware}}
"""


@pytest.fixture
def uri(token: Token, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key as SHARDFLOW_KEY names it."""
    monkeypatch.setenv("SOFTHSM2_CONF", str(token.config))
    found = token.uri.replace("module-name=softhsm2", f"module-path={token.modules}/libsofthsm2.so")
    monkeypatch.setenv("SHARDFLOW_KEY", found)
    return found


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as place:
        yield place


def test_a_statement_signed_in_hardware_counts_by_its_public_key(uri: str, token: Token, tmp_path: Path) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}")
    text = stated("approval", "llama", files_of(str(tmp_path)), {"for": "production"}, signer())
    keys = {"hardware": public_key(token.public.read_text())}
    assert checked(text, keys).by == "hardware"
    with pytest.raises(StatementRefused):
        checked(text.replace('"payload":"e', '"payload":"f'), keys)
    assert public_pem(uri) == token.public.read_text()


def test_a_key_in_hardware_approves_and_signs_by_the_same_commands(
    here: Place, uri: str, token: Token, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"keys:\n{key_entry('hardware', token.public.read_text(), 'ada')}{RULES}")
    monkeypatch.setenv("SHARDFLOW_POLICY", str(policy))
    here.register("llama", here.log({"MLmodel": b"flavors: {}", "weights.bin": b"w" * 5000}))
    steps = ((["approve", "llama/1", "--for", "staging"], "staging"), (["sign", "llama/1"], "production"))
    for arguments, status in steps:
        with pytest.raises(MlflowException):
            promote(here, status)
        run(*arguments)
        promote(here, status)
    assert "signed by hardware" in run("verify", "llama/1", "--policy", str(policy))
    assert token.public.read_text().splitlines()[1] in run("policy", "key")


def promote(here: Place, status: str) -> None:
    here.client.set_model_version_tag("llama", "1", "shardflow.status", status)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("wrong", [("pin-value=1234", "pin-value=9876"), ("object=ci", "object=none"), ("models", "x")])
def test_a_token_that_does_not_open_is_told_in_a_line_without_its_pin(uri: str, wrong: tuple[str, str]) -> None:
    with pytest.raises(TokenUnusable) as refused:
        signer(uri.replace(*wrong))
    assert "cannot be used" in refused.value.message
    assert "\n" not in str(refused.value)
    assert wrong[1] not in refused.value.message or "pin" not in wrong[1]


def test_without_the_driver_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PyKCS11", None)
    monkeypatch.delitem(sys.modules, "model_signing._signing.sign_pkcs11", raising=False)
    with pytest.raises(TokenUnusable, match="PyKCS11 is not installed"):
        signer("pkcs11:token=models;object=ci")


def test_a_file_is_still_a_file(tmp_path: Path) -> None:
    with pytest.raises(KeyUnusable, match="there is no key at"):
        signer(tmp_path / "pkcs11")
