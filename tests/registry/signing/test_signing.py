"""Signatures over models: made from what the store knows, and accepted by model-signing's own command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.forging import forge
from registry.logged import SMALL
from registry.signing.signatures import fetched, sign, stock, trusted
from shardflow.registry.evidence import Subject, facts_of
from shardflow.registry.evidence_digests import (
    DigestWrong,
    Files,
    ModelFile,
    digest_of,
    files_of,
    read_through,
    with_sha256,
)
from shardflow.registry.keys import make_key
from shardflow.registry.policy import TrustedKey
from shardflow.registry.signing import (
    SignatureRefused,
    checked,
    signed,
    store_beside,
    stored_signature,
    with_key,
    with_token,
    without_key,
)
from shardflow.registry.tokens import TokenUnusable
from shardflow.store.care.repack import repack
from shardflow.store.noted import noting_sha256
from shardflow.store.store import Store

if TYPE_CHECKING:
    from services.softhsm import Token


def test_the_stock_command_accepts_a_model_that_was_fetched_and_refuses_it_altered(
    location: str, key: Path, public: Path, tmp_path: Path
) -> None:
    sign(location, key)
    copy = fetched(location, tmp_path / "copy")
    assert stock(copy, public) == (0, "Verification succeeded\n")
    (copy / "weights" / "a.safetensors").write_bytes(b"other")
    code, said = stock(copy, public)
    assert code == 1
    assert "weights/a.safetensors" in said


def test_the_stock_command_refuses_a_file_that_was_added(
    location: str, key: Path, public: Path, tmp_path: Path
) -> None:
    sign(location, key)
    copy = fetched(location, tmp_path / "copy")
    (copy / "weights" / "more.py").write_text("evil()")
    assert stock(copy, public)[0] == 1


def test_signing_reads_no_weights_where_the_store_noted_what_it_needs(
    location: str, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "open", lambda *_: pytest.fail("a file was read"))
    assert all(file.sha256 for file in files_of(location).values())
    signed("m", with_sha256(location, files_of(location)), with_key(key))


def test_what_was_stored_without_a_note_is_read_once_and_noted(tmp_path: Path, model: Path, key: Path) -> None:
    store = Store.init(str(tmp_path / "store"), SMALL)
    store.put(model, "m")
    location = f"{store.url}/m"
    read: list[int] = []
    first = with_sha256(location, files_of(location), read.append)
    assert sum(read) == 500_000  # small files are in their manifests
    again = with_sha256(location, files_of(location), lambda _: pytest.fail("it was read again"))
    assert first == again == files_of(location)
    assert {name: file.sha256 for name, file in first.items()} == {
        name: file.sha256 for name, file in files_of(str(model)).items()
    }
    store.get("m", tmp_path / "back")
    assert (tmp_path / "back/weights/a.safetensors").read_bytes() == (model / "weights/a.safetensors").read_bytes()


def test_a_signature_holds_for_the_files_it_was_made_for_and_says_what_changed(location: str, key: Path) -> None:
    signature = sign(location, key)
    assert checked(stored_signature(location), files_of(location), [trusted(key)]).by == ("ci",)
    other = ModelFile(1, "00" * 32, "00" * 32)
    changed = {**files_of(location), "MLmodel": other}
    assert checked(signature, changed, [trusted(key)]).problem == "the files are not those that were signed: MLmodel"
    more = {**files_of(location), "evil.py": other}
    assert checked(signature, more, [trusted(key)]).problem == "the files are not those that were signed: evil.py"
    fewer = {path: file for path, file in files_of(location).items() if path != "MLmodel"}
    assert checked(signature, fewer, [trusted(key)]).problem == "the files are not those that were signed: MLmodel"


def test_a_signature_by_an_unknown_key_does_not_count(location: str, key: Path, tmp_path: Path) -> None:
    signature = sign(location, key)
    other = trusted(make_key(tmp_path / "other.pem"))
    assert (
        checked(signature, files_of(location), [other]).problem == "it is signed by a key that the policy does not name"
    )
    assert checked(signature, files_of(location), []).by == ()
    assert checked(signature, files_of(location), [other, trusted(key, "ada")]).by == ("ada",)


def test_that_sigstore_is_out_of_reach_is_told_and_hides_nothing_else(
    location: str, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from model_signing._signing import sign_sigstore
    from sigstore.errors import TUFError

    def out_of_reach(*_: object, **__: object) -> None:
        raise TUFError("no network")

    monkeypatch.setattr(sign_sigstore, "Verifier", out_of_reach)
    keyless = TrustedKey("release", "release", identity="release@example.org", issuer="https://example.org")
    signature, files = sign(location, key), files_of(location)
    assert str(checked(signature, files, [keyless]).problem).startswith("Sigstore cannot tell whether it holds")
    assert checked(signature, files, [keyless, trusted(key)]).by == ("ci",)
    other = trusted(make_key(tmp_path / "other.pem"))
    assert checked(signature, files, [keyless, other]).problem == "it is signed by a key that the policy does not name"
    monkeypatch.setattr(sign_sigstore, "Signer", out_of_reach)
    with pytest.raises(SignatureRefused, match="no network"):
        signed("m", files, without_key(ambient=True))


def altered_payload(bundle: dict[str, dict[str, object]]) -> None:
    import base64

    payload = json.loads(base64.b64decode(str(bundle["dsseEnvelope"]["payload"])))
    payload["predicate"]["resources"][0]["digest"] = "00" * 32
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()


@pytest.mark.parametrize("spoil", [altered_payload, lambda bundle: bundle.pop("dsseEnvelope"), dict.clear])
def test_an_altered_signature_does_not_count(location: str, key: Path, spoil: Callable[[object], object]) -> None:
    bundle = json.loads(sign(location, key))
    spoil(bundle)
    found = checked(json.dumps(bundle).encode(), files_of(location), [trusted(key)])
    assert found.by == ()
    assert found.problem


@pytest.mark.parametrize("signature", [b"", b"{}", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_signature_does_not_count(location: str, key: Path, signature: bytes) -> None:
    found = checked(signature, files_of(location), [trusted(key)])
    assert found.by == ()
    assert "cannot be read" in str(found.problem)


def test_a_signature_cannot_leave_out_files_of_the_model(tmp_path: Path, model: Path, key: Path) -> None:
    """The holder of a key may sign a part with model-signing itself; that does not cover the rest."""
    from model_signing import hashing, signing

    config = hashing.Config().set_ignored_paths(paths=["weights"], ignore_git_paths=True)
    signing.Config().use_elliptic_key_signer(private_key=key).set_hashing_config(config).sign(
        model, tmp_path / "part.sig"
    )
    found = checked((tmp_path / "part.sig").read_bytes(), files_of(str(model)), [trusted(key)])
    assert found.problem == "the files are not those that were signed: weights/a.safetensors"


def test_a_signature_that_the_stock_command_made_counts_too(tmp_path: Path, model: Path, key: Path) -> None:
    from model_signing import signing

    signing.Config().use_elliptic_key_signer(private_key=key).sign(model, model / "model.sig")
    assert checked(stored_signature(str(model)), files_of(str(model)), [trusted(key)]).by == ("ci",)


def facts(location: str, key: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    class Nothing:
        pass

    found = facts_of(["signed_by"], Subject("llama", location), {"ci": trusted(key)}, Nothing())  # type: ignore[arg-type]
    return found.signed_by, found.dismissed


def test_the_registry_takes_a_signature_into_account_as_long_as_it_holds(location: str, key: Path) -> None:
    assert facts(location, key) == ((), ("the model is not signed",))
    sign(location, key)
    assert facts(location, key) == (("ci",), ())
    store, path = Store.find(location)
    with noting_sha256():
        store.put(Path(__file__), f"{path}/MLmodel")
    assert facts(location, key) == ((), ("the files are not those that were signed: MLmodel",))


def test_the_registry_checks_a_signature_without_reading_or_a_noted_sha256(
    location: str, key: Path, model: Path
) -> None:
    sign(location, key)
    store, path = Store.find(location)
    store.rm(f"{path}/weights/a.safetensors")
    store.put(model / "weights" / "a.safetensors", f"{path}/weights/a.safetensors")
    assert files_of(location)["weights/a.safetensors"].sha256 is None
    assert facts(location, key) == (("ci",), ())


@pytest.fixture
def forged(location: str, key: Path) -> str:
    sign(location, key)
    before = digest_of(files_of(location))
    forge(location, "weights/a.safetensors")
    assert digest_of(files_of(location)) == before
    return location


def test_other_data_below_the_digests_that_were_signed_is_told(forged: str, key: Path) -> None:
    assert facts(forged, key) == ((), ("the files are not those that were signed: weights/a.safetensors",))


def test_whoever_reads_before_signing_finds_a_digest_that_is_wrong(forged: str) -> None:
    with pytest.raises(DigestWrong, match=r"weights/a\.safetensors is not what its digest in the store says"):
        read_through(forged, files_of(forged))


def test_a_signature_made_by_another_program_holds_in_a_store_only_for_whoever_reads(
    location: str, key: Path, model: Path
) -> None:
    from model_signing import signing

    signing.Config().use_elliptic_key_signer(private_key=key).sign(model, model / "model.sig")
    signature = (model / "model.sig").read_bytes()
    problem = checked(signature, files_of(location), [trusted(key)]).problem
    assert problem == "another program made the signature, so that only reading all files can tell whether it holds"
    read = {path: replace(file, chunks=None) for path, file in read_through(location, files_of(location)).items()}
    assert checked(signature, read, [trusted(key)]).by == ("ci",)


def test_a_signature_made_from_a_copy_on_disk_holds_for_the_same_files_in_a_store(
    location: str, key: Path, model: Path
) -> None:
    """As with a server that hands artifacts on: who signs has fetched them, and the server sees the store."""
    signature = signed("m", files_of(str(model)), with_key(key))
    assert checked(signature, files_of(location), [trusted(key)]).by == ("ci",)


def test_a_signature_holds_after_the_store_was_repacked(location: str, key: Path) -> None:
    sign(location, key)
    store, _ = Store.find(location)
    store.put(Path(__file__), "more")
    assert repack(store, small=1.0).manifests_rewritten
    assert facts(location, key) == (("ci",), ())


def test_a_key_in_hardware_signs_what_the_stock_command_accepts(
    location: str, token: Token, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOFTHSM2_CONF", str(token.config))
    signature = signed("m", files_of(location), with_token(token.uri, [token.modules]))
    key = TrustedKey("hardware", "ci", token.public.read_text())
    assert checked(signature, files_of(location), [key]).by == ("hardware",)
    store_beside(location, "model.sig", signature)
    assert stock(fetched(location, tmp_path / "copy"), token.public)[0] == 0


def test_a_token_that_this_machine_cannot_use_is_told(location: str) -> None:
    with pytest.raises(TokenUnusable, match="pkcs11:token=none;object=none cannot be used"):
        signed("m", files_of(location), with_token("pkcs11:token=none;object=none", ["/nonexistent/module.so"]))


def test_a_model_outside_of_a_store_is_signed_by_reading_it(model: Path, key: Path, public: Path) -> None:
    found: Files = files_of(model.as_uri())
    store_beside(model.as_uri(), "model.sig", signed("m", with_sha256(model.as_uri(), found), with_key(key)))
    assert stock(model, public)[0] == 0
