"""Pieces that tests about policies share."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shardflow.registry.terms import Actor, Facts, Move, Status

ADA = Actor("ada", verified=True)


def pem_of(key: ec.EllipticCurvePrivateKey) -> str:
    found = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return found.decode()


def key_entry(name: str, pem: str, person: str = "") -> str:
    """One entry below `keys:`, as it stands in a file."""
    body = "".join(f"      {line}\n" for line in pem.splitlines())
    return f"  {name}:\n    public: |\n{body}" + (f"    person: {person}\n" if person else "")


def to(after: Status, before: Status = Status.STAGING, model: str = "llama", actor: Actor = ADA) -> Move:
    return Move(model, 3, before, after, actor, at=100_000.0)


def known(**facts: object) -> Facts:
    return Facts(**{"metrics": {}, "production": None, **facts})  # type: ignore[arg-type]
