"""Keys on the disk: made for their owner only, opened with their password only, and refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardflow.registry.keys import KeyUnusable, make_key, private_key, public_pem, signer
from shardflow.registry.policy_files import own_key
from shardflow.registry.tokens import token_uri


def test_a_new_key_is_for_its_owner_only_and_is_never_overwritten(tmp_path: Path) -> None:
    path = make_key(tmp_path / "config" / "key.pem")
    assert path.stat().st_mode & 0o777 == 0o600
    before = path.read_bytes()
    with pytest.raises(KeyUnusable, match="already"):
        make_key(path)
    assert path.read_bytes() == before


def test_a_key_that_others_can_read_does_not_sign(tmp_path: Path) -> None:
    path = make_key(tmp_path / "key.pem")
    path.chmod(0o644)
    with pytest.raises(KeyUnusable, match="chmod 600"):
        private_key(path)


@pytest.mark.parametrize("named", ["sigstore:x", "sigstore:", "pkcs12:token=a"])
def test_a_key_of_a_kind_that_is_not_known_is_no_file_to_make(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDFLOW_KEY", named)
    for use in (own_key, make_key, private_key):
        with pytest.raises(KeyUnusable, match=r"there is no (sigstore|pkcs12) key called .*sigstore:ambient"):
            use()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "named",
    [
        "pkcs12:token=t;object=ci?pin-value=1234",
        " pkcs11:token=t;object=ci?pin-value=1234",
        "pkcs11a:token=t;object=ci;pin-value=1234",
        "pkcs12:Pin-Value=1234&object=ci",
        "pkcs12:?module-name=x&pin-value=1234",
    ],
)
def test_a_key_of_a_kind_that_is_not_known_is_refused_without_its_pin(
    named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDFLOW_KEY", named)
    for use in (own_key, make_key, private_key, signer, public_pem):
        with pytest.raises(KeyUnusable) as refused:
            use()
        assert "1234" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["pkcs11", "PKCS11", "Pkcs11"])
def test_a_key_in_hardware_is_one_in_whatever_letters_its_scheme_is_written(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"{scheme}:token=T;object=ci?pin-value=1234"
    monkeypatch.setenv("SHARDFLOW_KEY", uri)
    assert token_uri() == token_uri(uri) == "pkcs11:token=T;object=ci?pin-value=1234"


def test_an_encrypted_key_opens_with_its_password_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_KEY_PASSWORD", "secret")
    path = make_key(tmp_path / "key.pem")
    assert b"ENCRYPTED" in path.read_bytes()
    private_key(path)
    for password in ("wrong", ""):
        monkeypatch.setenv("SHARDFLOW_KEY_PASSWORD", password)
        with pytest.raises(KeyUnusable):
            private_key(path)


def test_a_key_that_is_not_there_or_of_another_kind_is_told(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    with pytest.raises(KeyUnusable, match="shardflow policy key"):
        private_key(tmp_path / "none.pem")
    (tmp_path / "ed.pem").write_bytes(
        ed25519.Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (tmp_path / "text.pem").write_text("nonsense")
    for name in ("ed.pem", "text.pem"):
        (tmp_path / name).chmod(0o600)
        with pytest.raises(KeyUnusable):
            private_key(tmp_path / name)
