"""Keys in hardware, by their PKCS #11 URIs: they sign statements as keys on disk do, and never leave the token.

model-signing, which signs models with such keys, finds the token and opens it here as well.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from securesystemslib.signer import Signature, Signer, SSlibKey

from shardflow.errors import ShardflowError

KEY_VARIABLE = "SHARDFLOW_KEY"
SCHEME = "pkcs11:"
_PIN = re.compile(r"\?|[;&]?pin-(?:value|source)=", re.IGNORECASE)


class TokenUnusable(ShardflowError):
    """A key in hardware that this machine cannot use."""


def token_uri(named: object = None) -> str | None:
    """The URI of the key that is named here, or else by SHARDFLOW_KEY, if that is one in hardware."""
    text = str(named or os.environ.get(KEY_VARIABLE) or "")
    scheme, rest = text[: len(SCHEME)], text[len(SCHEME) :]
    return f"{SCHEME}{rest}" if scheme.lower() == SCHEME else None


class TokenSigner(Signer):
    """Signs statements with an elliptic key in hardware."""

    def __init__(self, uri: str, modules: Iterable[str] = ()) -> None:
        self._uri = uri
        with in_words(uri):
            driver = import_module("PyKCS11")
            from model_signing._signing.sign_pkcs11 import Signer as Token  # noqa: PLC0415  # it needs that too

            self._token: Any = Token(uri, tuple(modules))
            number, label = self._token.pkcs11_uri.get_keyid_and_label()
            self._private = self._token.find_object(driver.CKO_PRIVATE_KEY, label=label, id=number)
            self._key = SSlibKey.from_crypto(self._token.public_key())

    @property
    def public_key(self) -> SSlibKey:
        return self._key

    @classmethod
    def from_priv_key_uri(
        cls,
        priv_key_uri: str,
        public_key: Any,
        secrets_handler: Any = None,  # noqa: ARG003  # the PIN is in the URI
    ) -> TokenSigner:
        found = cls(priv_key_uri)
        if found.public_key.keyid != public_key.keyid:
            raise TokenUnusable(f"{without_pin(priv_key_uri)} is another key", remedy="name the key of this token")
        return found

    def sign(self, payload: bytes) -> Signature:
        with in_words(self._uri):
            driver, numbers = import_module("PyKCS11"), import_module("asn1crypto.algos")
            from model_signing._signing.sign_ec_key import get_ec_key_hash  # noqa: PLC0415

            digest = hashes.Hash(get_ec_key_hash(self._token.public_key()))
            digest.update(payload)
            mechanism = driver.Mechanism(driver.CKM_ECDSA, None)
            both = self._token.session.sign(self._private, digest.finalize(), mechanism)
            return Signature(self._key.keyid, numbers.DSASignature.from_p1363(bytes(both)).dump().hex())

    def public_pem(self) -> str:
        """The public half, as a policy names it."""
        pem: bytes = self._token.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return pem.decode()


@contextmanager
def in_words(uri: str) -> Iterator[None]:
    """What goes wrong with a token, in one line that does not tell its PIN."""
    try:
        yield
    except ImportError:
        raise TokenUnusable(
            "PyKCS11 is not installed, which keys in hardware need", remedy="pip install 'model-signing[pkcs11]'"
        ) from None
    except token_errors() as error:
        reason = " ".join(str(error).replace(uri, without_pin(uri)).split())[:200]
        raise TokenUnusable(
            f"{without_pin(uri)} cannot be used: {reason or type(error).__name__}",
            remedy="check the URI: its token, object, module-path, and pin-value or pin-source",
        ) from None


def token_errors() -> tuple[type[Exception], ...]:
    """What goes wrong with a token, by its driver too where there is one."""
    try:
        driver: Any = import_module("PyKCS11")
    except ImportError:
        return (ValueError, OSError)
    return (ValueError, OSError, driver.PyKCS11Error)


def without_pin(uri: str) -> str:
    """A URI without its query, where a PIN may be; and without what follows one that was written elsewhere."""
    return _PIN.split(uri, maxsplit=1)[0]
