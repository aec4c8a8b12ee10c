"""Signatures without a key, by an identity that a Sigstore vouches for: a whole one on loopback, with real clients."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from registry.logged import own_place
from registry.own_sigstore import OwnSigstore, running
from shardflow.registry.evidence_digests import files_of
from shardflow.registry.evidence_recording import approve
from shardflow.registry.evidence_statements import StatementRefused, kind_of, require_about, stated
from shardflow.registry.evidence_statements import checked as statement_checked
from shardflow.registry.identities import IdentityUnknown
from shardflow.registry.keys import KeyUnusable, public_pem, signer
from shardflow.registry.policy import TrustedKey
from shardflow.registry.signing import SignatureRefused, checked, signed, without_key
from shardflow.registry.terms import Status

RELEASE = "https://ci.example.org/release"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnSigstore]:
    """A Sigstore that this process trusts, on a machine whose jobs are the release."""
    with running(RELEASE) as own:
        monkeypatch.setenv("SHARDFLOW_SIGSTORE", str(own.write_trust(tmp_path / "trust.json")))
        for name, value in own.settings().items():
            monkeypatch.setenv(name, value)
        yield own


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "MLmodel").write_text("flavors: {}")
    (directory / "weights.safetensors").write_bytes(b"w" * 5000)
    return directory


def trusted(own: OwnSigstore, identity: str = RELEASE) -> TrustedKey:
    return TrustedKey("release", "release", identity=identity, issuer=own.url)


def sign(model: Path) -> bytes:
    return signed("m", files_of(str(model)), without_key(ambient=True))


def test_the_identity_of_a_job_signs_and_the_stock_command_accepts_it(own: OwnSigstore, model: Path) -> None:
    signature = sign(model)
    assert checked(signature, files_of(str(model)), [trusted(own)]).by == ("release",)
    place = model.parent / "model.sig"
    place.write_bytes(signature)
    command = [sys.executable, "-m", "model_signing", "verify", "sigstore", str(model), "--signature", str(place)]
    command += ["--identity", RELEASE, "--identity_provider", own.url]
    command += ["--trust_config", str(model.parent / "trust.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_another_identity_or_another_issuer_does_not_count(
    own: OwnSigstore, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(str(model))
    mine = sign(model)
    assert checked(mine, files, [trusted(own, "https://ci.example.org/other")]).by == ()
    stranger = TrustedKey("release", "release", identity=RELEASE, issuer="https://elsewhere.example.org")
    assert checked(mine, files, [stranger]).by == ()
    for name, value in own.settings("https://ci.example.org/pull-request").items():
        monkeypatch.setenv(name, value)
    assert checked(sign(model), files, [trusted(own)]).by == ()


def test_a_keyless_signature_holds_for_its_files_alone(own: OwnSigstore, model: Path) -> None:
    signature = sign(model)
    (model / "weights.safetensors").write_bytes(b"other")
    found = checked(signature, files_of(str(model)), [trusted(own)])
    assert (found.by, found.problem) == ((), "the files are not those that were signed: weights.safetensors")


def test_a_keyless_signature_that_was_altered_does_not_count(own: OwnSigstore, model: Path) -> None:
    bundle = json.loads(sign(model))
    entry = bundle["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) - 1)
    found = checked(json.dumps(bundle).encode(), files_of(str(model)), [trusted(own)])
    assert found.by == ()
    assert "Sigstore cannot tell whether it holds" in str(found.problem)


def test_a_sigstore_that_nobody_told_to_trust_vouches_for_nobody(
    own: OwnSigstore, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = sign(model)
    with running(RELEASE) as other:
        monkeypatch.setenv("SHARDFLOW_SIGSTORE", str(other.write_trust(tmp_path / "other.json")))
        assert checked(signature, files_of(str(model)), [trusted(own)]).by == ()


@pytest.mark.parametrize("trust", ["nothing.json", "model/MLmodel"])
def test_a_file_of_trust_that_is_none_is_told_in_a_line(
    own: OwnSigstore, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trust: str
) -> None:
    signature = sign(model)
    monkeypatch.setenv("SHARDFLOW_SIGSTORE", str(tmp_path / trust))
    with pytest.raises(SignatureRefused, match="cannot be signed"):
        sign(model)
    assert checked(signature, files_of(str(model)), [trusted(own)]).problem


def stated_by(model: Path) -> str:
    return stated("approval", "llama", files_of(str(model)), {"for": "production"}, signer())


def test_the_identity_of_a_job_states_and_counts_as_the_policy_names_it(
    own: OwnSigstore, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHARDFLOW_KEY", "sigstore:ambient")
    text = stated_by(model)
    assert kind_of(text) == "approval"
    said = statement_checked(text, {}, [trusted(own)])
    assert (said.by, said.model, said.predicate["for"]) == ("release", "llama", "production")
    require_about(said, files_of(str(model)))
    (model / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(StatementRefused, match="is about another model"):
        require_about(said, files_of(str(model)))
    for others in ([], [trusted(own, "https://ci.example.org/other")]):
        with pytest.raises(StatementRefused, match="an identity that the policy does not name"):
            statement_checked(text, {}, others)


def test_a_statement_by_identity_that_says_something_else_twice_is_read_as_it_was_signed(
    own: OwnSigstore, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers of JSON differ in which of two entries of one name they take."""
    monkeypatch.setenv("SHARDFLOW_KEY", "sigstore:ambient")
    text = stated_by(model)
    signed_payload = json.loads(text)["dsseEnvelope"]["payload"]
    forged = base64.b64encode(base64.b64decode(signed_payload).replace(b'"llama"', b'"other"')).decode()
    first, last = f'"payload":"{forged}","payload":"', f'"payload":"{signed_payload}","payload":"{forged}","x":"'
    for words in (first, last):
        twice = text.replace(" ", "").replace('"payload":"', words, 1)
        try:
            assert statement_checked(twice, {}, [trusted(own)]).model == "llama"
        except StatementRefused:
            continue


def test_an_approval_by_identity_lets_a_move_pass(
    own: OwnSigstore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = tmp_path / "policy.yaml"
    entry = f"  release: {{identity: '{RELEASE}', issuer: '{own.url}', person: ci}}\n"
    policy.write_text(f"keys:\n{entry}rules: [{{to: staging, require: {{approvals: {{from: [ci]}}}}}}]\n")
    monkeypatch.setenv("SHARDFLOW_POLICY", str(policy))
    monkeypatch.setenv("SHARDFLOW_KEY", "sigstore:ambient")
    with own_place(tmp_path) as here:
        here.register("llama", here.log({"MLmodel": b"flavors: {}", "weights.bin": b"w" * 5000}))
        with pytest.raises(MlflowException, match=r"[Aa]pprov"):
            here.client.set_model_version_tag("llama", "1", "shardflow.status", "staging")
        approve("llama/1", Status.STAGING, client=here.client)
        here.client.set_model_version_tag("llama", "1", "shardflow.status", "staging")
        assert here.client.get_model_version("llama", "1").current_stage == "Staging"


def test_a_machine_without_an_identity_is_told(own: OwnSigstore, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_KEY", "sigstore:ambient")
    monkeypatch.delenv("GITHUB_ACTIONS")
    with pytest.raises(IdentityUnknown, match="this machine has no identity"):
        stated_by(model)
    with pytest.raises(KeyUnusable, match="an identity has no key"):
        public_pem()
    own.url = "http://127.0.0.1:1"
    monkeypatch.setenv("SHARDFLOW_SIGSTORE", str(own.write_trust(model.parent / "gone.json")))
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    with pytest.raises(IdentityUnknown, match="Sigstore does not answer"):
        stated_by(model)
