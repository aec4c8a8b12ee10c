"""What a policy consists of once it is read: keys, groups, and rules about moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shardflow.registry.policy.patterns import matches
from shardflow.registry.policy.requirements import Requirement
from shardflow.registry.terms import Move, Status


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """Somebody whose signatures count: by a public key, or by an identity that Sigstore has checked."""

    name: str
    person: str
    pem: str | None = None
    identity: str | None = None
    issuer: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What moves of some models need."""

    models: tuple[str, ...]
    to: frozenset[Status]
    before: frozenset[Status] | None
    requirements: tuple[Requirement, ...]

    def covers(self, move: Move) -> bool:
        return (
            move.after in self.to
            and (self.before is None or move.before in self.before)
            and any(matches(move.model, pattern) for pattern in self.models)
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """All of a policy."""

    keys: Mapping[str, TrustedKey]
    groups: Mapping[str, frozenset[str]]
    rules: tuple[Rule, ...]
