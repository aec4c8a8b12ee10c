"""Keys: the private one that signs for somebody, on disk or in hardware, and public ones as a policy names them."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner, Signer, SSlibKey

from shardflow.errors import ShardflowError
from shardflow.registry.identities import IdentitySigner, identity_signer
from shardflow.registry.tokens import KEY_VARIABLE, TokenSigner, token_uri, without_pin

PASSWORD_VARIABLE = "SHARDFLOW_KEY_PASSWORD"  # noqa: S105  # its name
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*):")


class KeyUnusable(ShardflowError):
    """A key that is not there, cannot be opened, or is of a kind that cannot sign models."""


def key_path(path: str | Path | None = None) -> Path:
    """Where the private key of this user is: as named, as SHARDFLOW_KEY says, or in the user's configuration."""
    named = path or os.environ.get(KEY_VARIABLE)
    if named:
        if scheme := _SCHEME.match(str(named)):
            raise KeyUnusable(
                f"there is no {scheme[1]} key called {without_pin(str(named))[scheme.end() :]}",
                remedy="name a file, a PKCS #11 URI, sigstore:ambient or sigstore:browser",
            )
        return Path(named)
    config = os.environ.get("XDG_CONFIG_HOME")
    return (Path(config) if config else Path.home() / ".config") / "shardflow" / "key.pem"


def password() -> bytes | None:
    """What opens an encrypted key."""
    text = os.environ.get(PASSWORD_VARIABLE)
    return text.encode() if text else None


def make_key(path: str | Path | None = None) -> Path:
    """A new key that only this user can read; KeyUnusable if there is one already."""
    target = key_path(path)
    secret = password()
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if secret:
        encryption = serialization.BestAvailableEncryption(secret)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyUnusable(f"there is a key at {target} already", remedy="use it, or name another place") from None
    with open(descriptor, "wb") as file:  # noqa: PTH123  # it is open, and nobody else ever could read it
        file.write(pem)
    return target


def private_key(path: str | Path | None = None) -> ec.EllipticCurvePrivateKey:
    """The key that signs."""
    found = key_path(path)
    try:
        mode, data = found.stat().st_mode, found.read_bytes()
    except FileNotFoundError:
        raise KeyUnusable(f"there is no key at {found}", remedy="make one with 'shardflow policy key'") from None
    if mode & 0o077:
        raise KeyUnusable(f"others can read the key {found}", remedy=f"take their rights away: chmod 600 {found}")
    try:
        key = serialization.load_pem_private_key(data, password())
    except TypeError:
        raise KeyUnusable(
            f"the key {found} opens with a password, or without one", remedy=f"set or unset {PASSWORD_VARIABLE}"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(
            f"{found} is no key that opens", remedy="name a private key in PEM, and its password"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyUnusable(f"{found} is no elliptic key", remedy="make one with 'shardflow policy key'")
    return key


def signer(path: str | Path | None = None) -> Signer | IdentitySigner:
    """What signs statements: a key on disk, one in hardware by its PKCS #11 URI, or an identity."""
    by_identity = identity_signer(path)
    if by_identity:
        return by_identity
    uri = token_uri(path)
    if uri:
        return TokenSigner(uri)
    key = private_key(path)
    try:
        return CryptoSigner(key)
    except ValueError as error:
        raise KeyUnusable(f"{key_path(path)} cannot sign: {error}", remedy="use one of the curve secp256r1") from None


def public_pem(path: str | Path | None = None) -> str:
    """The public half, as a policy names it."""
    if identity_signer(path):
        raise KeyUnusable("an identity has no key", remedy="name its identity and issuer in the policy")
    uri = token_uri(path)
    if uri:
        return TokenSigner(uri).public_pem()
    data = (
        private_key(path)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return data.decode()


def read_public(path: Path) -> str:
    """The public key in a file."""
    try:
        text = path.read_text()
        serialization.load_pem_public_key(text.encode())
    except FileNotFoundError:
        raise KeyUnusable(f"there is no key at {path}", remedy="name a public key in PEM") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyUnusable(f"{path} is no public key", remedy="name a public key in PEM") from None
    return text


@lru_cache(maxsize=1000)
def public_key(pem: str) -> SSlibKey:
    """What checks statements."""
    return SSlibKey.from_crypto(serialization.load_pem_public_key(pem.encode()))
