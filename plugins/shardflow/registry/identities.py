"""Signs and checks statements by identity: Sigstore vouches for who somebody is, and there is no key to keep.

Such a statement is a Sigstore bundle around the same DSSE envelope that a key would sign. `SHARDFLOW_KEY` asks for it:
`sigstore:ambient` for the identity that the machine has, as a CI job, `sigstore:browser` for whoever signs in.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shardflow.errors import ShardflowError
from shardflow.registry.policy.rules import TrustedKey
from shardflow.registry.tokens import KEY_VARIABLE

SIGSTORE_VARIABLE = "SHARDFLOW_SIGSTORE"
AMBIENT, BROWSER = "sigstore:ambient", "sigstore:browser"


class IdentityUnknown(ShardflowError):
    """Nobody vouches for who this is."""


class IdentitySigner:
    """Signs as whoever Sigstore says that this is."""

    def __init__(self, *, ambient: bool) -> None:
        self.ambient = ambient

    def bundle(self, statement: bytes) -> str:
        """A statement and who vouches for its author, as one text."""
        from sigstore.dsse import Statement  # noqa: PLC0415  # with all of Sigstore
        from sigstore.sign import SigningContext  # noqa: PLC0415

        class AsItIs(Statement):
            """Sigstore's own would refuse a digest of a store beside those that it knows."""

            def __init__(self, contents: bytes) -> None:
                self._contents = contents

        with _in_words():
            trust = _trust()
            with SigningContext.from_trust_config(trust).signer(self._token(trust)) as signer:
                return signer.sign_dsse(AsItIs(statement)).to_json()

    def _token(self, trust: Any) -> Any:
        from sigstore.oidc import IdentityToken, Issuer, detect_credential  # noqa: PLC0415

        if not self.ambient:
            return Issuer(trust.signing_config.get_oidc_url()).identity_token()
        found = detect_credential()
        if found is None:
            raise IdentityUnknown(
                "this machine has no identity that Sigstore knows of",
                remedy=f"let the job ask for an identity token, or set {KEY_VARIABLE}={BROWSER}",
            )
        return IdentityToken(found)


def identity_signer(named: object = None) -> IdentitySigner | None:
    """What signs, if an identity is to sign by what is named here, or else by SHARDFLOW_KEY."""
    text = str(named or os.environ.get(KEY_VARIABLE) or "")
    return IdentitySigner(ambient=text == AMBIENT) if text in {AMBIENT, BROWSER} else None


def own_sigstore() -> Path | None:
    """The file by which a Sigstore of one's own is trusted, in place of the public one."""
    named = os.environ.get(SIGSTORE_VARIABLE)
    return Path(named) if named else None


def envelope_in(document: Any) -> Mapping[str, Any] | None:
    """The envelope within a bundle; None for what is no bundle."""
    found = document.get("dsseEnvelope") if isinstance(document, dict) else None
    return found if isinstance(found, dict) else None


def signed_by(text: str, keys: Iterable[TrustedKey]) -> tuple[str, str, bytes] | None:
    """The first of these whose identity has signed a bundle, by its name, with the type and the text that it signed.

    None if nobody's has. What was signed is what Sigstore checked: others may read the same bundle otherwise.
    """
    from sigstore.models import Bundle  # noqa: PLC0415
    from sigstore.verify import Verifier, policy  # noqa: PLC0415

    with _in_words():
        bundle, verifier = Bundle.from_json(text), Verifier(trusted_root=_trust().trusted_root)
    for key in keys:
        if key.identity:
            held = _held(verifier, bundle, policy.Identity(identity=key.identity, issuer=key.issuer))
            if held:
                return key.name, *held
    return None


def _held(verifier: Any, bundle: Any, wanted: Any) -> tuple[str, bytes] | None:
    from sigstore.errors import VerificationError  # noqa: PLC0415

    try:
        kind, payload = verifier.verify_dsse(bundle, wanted)
    except VerificationError:
        return None
    return str(kind), bytes(payload)


def _trust() -> Any:
    from sigstore.models import ClientTrustConfig  # noqa: PLC0415

    named = own_sigstore()
    return ClientTrustConfig.from_json(named.read_text()) if named else ClientTrustConfig.production()


@contextmanager
def _in_words() -> Iterator[None]:
    """What goes wrong with Sigstore, in one line."""
    from sigstore.errors import Error  # noqa: PLC0415
    from sigstore.oidc import ExpiredIdentity, IssuerError  # noqa: PLC0415

    try:
        yield
    except (Error, ExpiredIdentity, IssuerError, ValueError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise IdentityUnknown(
            f"Sigstore does not answer as it should: {reason}",
            remedy=f"check that it can be reached, the identity of this machine, and {SIGSTORE_VARIABLE}",
        ) from None
