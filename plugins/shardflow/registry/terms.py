"""The words of the registry: statuses, moves between them, and what a policy is told before it allows one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """Where a model version stands in its life."""

    DRAFT = "draft"
    TESTING = "testing"
    STAGING = "staging"
    PRODUCTION = "production"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks for something; verified if a server has checked who it is."""

    name: str
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """A version that is to go from one status to another."""

    model: str
    version: int
    before: Status
    after: Status
    actor: Actor
    at: float
    """When it is asked for, in seconds since 1970."""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an evaluation found, as a signed statement says."""

    passed: bool
    suite: str
    by: str
    """The key that signed it, by its name in the policy."""
    at: float


@dataclass(frozen=True, slots=True)
class Approval:
    """That somebody stands behind a move, as a signed statement says."""

    person: str
    after: Status
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a version when a move is judged. Only statements whose signature was checked are in here."""

    metrics: Mapping[str, float]
    production: Mapping[str, float] | None
    """The metrics of the version that is in production now, if there is one."""
    verdicts: tuple[Verdict, ...] = ()
    approvals: tuple[Approval, ...] = ()
    signed_by: tuple[str, ...] = ()
    """The keys whose signature over the model's files holds."""
    lineage_gaps: tuple[str, ...] = ()
    """What a complete lineage would name and this one does not: "run", "code", "dataset", "parent"."""
    author: str | None = None
    entered_at: float | None = None
    """When the version came to the status it is in."""
    dismissed: tuple[str, ...] = ()
    """Why statements and signatures that were handed in do not count."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a move is not allowed; the remedy comes first, because pages show no more than a line."""

    rule: str
    remedy: str
    found: str

    def __str__(self) -> str:
        return f"{self.remedy} ({self.found})"
