"""Statements about a model's files, signed: that it passed an evaluation, or that somebody approves a move.

Each is an in-toto statement in a DSSE envelope. Its subject is the list of the model's files with their BLAKE3
digests, by the SHA-256 of that list (`shardflow.registry.evidence_digests`): whoever has the files can say whether it
is about them. Where they are in a store, a second digest says what the store holds for them. A client hands one in as
a tag of the model version, `shardflow.statement.<digest>`, whose value is the envelope, or the Sigstore
bundle around it if an identity has signed it (`shardflow.registry.identities`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import Error as DsseError
from securesystemslib.signer import Signer, SSlibKey

from shardflow.errors import ShardflowError
from shardflow.registry.evidence_digests import Files, digest_of, held_digest
from shardflow.registry.evidence_tags import MOST_BYTES
from shardflow.registry.identities import IdentitySigner, IdentityUnknown, envelope_in, signed_by
from shardflow.registry.policy.rules import TrustedKey
from shardflow.registry.remembered import Remembered

VERDICT_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
APPROVAL_TYPE = "https://shardflow/approval/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MOST_CHECKED = 10_000  # statements that were found to be signed by a key
_HELD = "shardflow"

Kind = Literal["verdict", "approval"]
_KINDS: dict[str, Kind] = {VERDICT_TYPE: "verdict", APPROVAL_TYPE: "approval"}


class StatementRefused(ShardflowError):
    """A statement that does not count: altered, by a key nobody trusts, or about something else."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a statement says, once its signature was checked."""

    kind: Kind
    by: str
    model: str
    digest: str
    held: str | None
    """The digest of what a store held, for a statement about files in one."""
    predicate: Mapping[str, Any]


class _Descriptor(msgspec.Struct):
    name: str
    digest: dict[str, str]


class _Payload(msgspec.Struct, rename="camel"):
    type_: str = msgspec.field(name="_type")
    subject: tuple[_Descriptor, ...]
    predicate_type: str
    predicate: dict[str, Any]


_by_keys = Remembered[Said](MOST_CHECKED)
_PAYLOAD = msgspec.json.Decoder(_Payload)


def stated(kind: Kind, model: str, files: Files, predicate: Mapping[str, Any], signer: Signer | IdentitySigner) -> str:
    """A signed statement about the files of a model, as text."""
    digests = {"sha256": digest_of(files)}
    if any(file.chunks for file in files.values()):
        digests[_HELD] = held_digest(files)
    subject = ResourceDescriptor(name=model, digest=digests).pb
    of_kind = next(uri for uri, each in _KINDS.items() if each == kind)
    statement = Statement([subject], of_kind, dict(predicate))
    statement.validate()
    text = _signed(_canonical(statement), signer)
    if len(text) > MOST_BYTES:
        raise StatementRefused(
            f"the statement takes {len(text):,} bytes, and a registry keeps {MOST_BYTES:,}",
            remedy="record fewer metrics at a time",
        )
    return text


def kind_of(text: str) -> Kind:
    """What a text claims to be, before anybody checked its signature; StatementRefused if it is no statement."""
    return _KINDS[_payload(_envelope(text)).predicate_type]


def checked(text: str, keys: Mapping[str, SSlibKey], identities: Iterable[TrustedKey] = ()) -> Said:
    """What a statement says if one of these keys, by their names, has signed it and it was not altered since.

    One that was signed by an identity counts if it is one of the `identities`, by the Sigstore of the moment. What a
    key has signed follows from the text and the keys alone, and is found out once.
    """
    names = [f"{name} {key.keyid} {key.keyval}".encode() for name, key in keys.items()]
    return _by_keys.of(
        lambda: _checked(text, keys, identities), text.encode(), *names, keep=lambda said: said.by in keys
    )


def _checked(text: str, keys: Mapping[str, SSlibKey], identities: Iterable[TrustedKey]) -> Said:
    envelope = _envelope(text)
    if not envelope.signatures:
        return _said(*_by_identity(text, identities))
    for name, key in keys.items():
        if key.keyid in envelope.signatures:
            try:
                envelope.verify([key], 1)
            except DsseError:
                raise StatementRefused(
                    "a statement was altered after it was signed", remedy="have it made anew"
                ) from None
            return _said(name, envelope)
    raise StatementRefused(
        "a statement is signed by a key that the policy does not name", remedy="add the key to the policy's keys"
    )


def require_about(said: Said, files: Files) -> None:
    """Refuse a statement about other files than these."""
    in_store = any(file.chunks for file in files.values())
    held = said.held is None or not in_store or said.held == held_digest(files)
    if said.digest != digest_of(files) or not held:
        raise StatementRefused(
            f"the {said.kind} by {said.by} is about another model", remedy="have it made for the files that are there"
        )


def _signed(payload: bytes, signer: Signer | IdentitySigner) -> str:
    if isinstance(signer, IdentitySigner):
        return signer.bundle(payload)
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return json.dumps(envelope.to_dict(), separators=(",", ":"))


def _by_identity(text: str, identities: Iterable[TrustedKey]) -> tuple[str, Envelope]:
    """By which of these identities a bundle was signed, and what."""
    known = [each for each in identities if each.identity]
    try:
        found = signed_by(text, known) if known else None
    except IdentityUnknown as unknown:
        raise StatementRefused(unknown.message, remedy=unknown.remedy) from None
    if found is None or found[1] != PAYLOAD_TYPE:
        raise StatementRefused(
            "a statement is signed by an identity that the policy does not name, or was altered",
            remedy="add the identity to the policy's keys, or have it made anew",
        )
    name, kind, payload = found
    return name, Envelope(payload, kind, {})


def _said(by: str, envelope: Envelope) -> Said:
    payload = _payload(envelope)
    subject = payload.subject[0]
    digest, held = subject.digest.get("sha256", ""), subject.digest.get(_HELD)
    return Said(_KINDS[payload.predicate_type], by, subject.name, digest, held, payload.predicate)


def _envelope(text: str) -> Envelope:
    """The envelope of a statement; one within a bundle without its signature, which is the bundle's to check."""
    try:
        document = json.loads(text)
        bundled = envelope_in(document)
        envelope = Envelope.from_dict({**bundled, "signatures": []} if bundled else document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DsseError):
        raise _malformed() from None
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _malformed()
    return envelope


def _payload(envelope: Envelope) -> _Payload:
    try:
        payload = _PAYLOAD.decode(envelope.payload)
    except msgspec.MsgspecError:
        raise _malformed() from None
    if payload.type_ != STATEMENT_TYPE_URI or payload.predicate_type not in _KINDS or len(payload.subject) != 1:
        raise _malformed()
    return payload


def _canonical(statement: Statement) -> bytes:
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415

    return json.dumps(MessageToDict(statement.pb), sort_keys=True, separators=(",", ":")).encode()


def _malformed() -> StatementRefused:
    return StatementRefused(
        "a statement is none that this release can read", remedy="upgrade shardflow here, or make it anew"
    )
