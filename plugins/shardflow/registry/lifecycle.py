"""The life of a model version: its statuses, the moves between them, and how MLflow's stages and aliases show them.

    draft -> testing -> staging -> production -> archived

A move that is not in the table is refused before any policy is asked. Every other word for a status (a stage, a
reserved alias, the reserved tag) is only another way to ask for the same move.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlflow.entities.model_registry.model_version_stages import (
    STAGE_ARCHIVED,
    STAGE_NONE,
    STAGE_PRODUCTION,
    STAGE_STAGING,
    get_canonical_stage,
)

from shardflow.registry.terms import Move, Refusal, Status

MOVES: Mapping[Status, frozenset[Status]] = {
    # Straight to staging, too: clients that know only MLflow's stages have no word for testing.
    Status.DRAFT: frozenset({Status.TESTING, Status.STAGING, Status.ARCHIVED}),
    Status.TESTING: frozenset({Status.DRAFT, Status.STAGING, Status.ARCHIVED}),
    Status.STAGING: frozenset({Status.TESTING, Status.PRODUCTION, Status.ARCHIVED}),
    Status.PRODUCTION: frozenset({Status.STAGING, Status.ARCHIVED}),
    # Back to production, but only for what has been there: a rollback.
    Status.ARCHIVED: frozenset({Status.DRAFT, Status.STAGING, Status.PRODUCTION}),
}

STAGES: Mapping[Status, str] = {
    Status.DRAFT: STAGE_NONE,
    Status.TESTING: STAGE_NONE,
    Status.STAGING: STAGE_STAGING,
    Status.PRODUCTION: STAGE_PRODUCTION,
    Status.ARCHIVED: STAGE_ARCHIVED,
}

_OF_STAGE: Mapping[str, Status] = {
    STAGE_NONE: Status.DRAFT,
    STAGE_STAGING: Status.STAGING,
    STAGE_PRODUCTION: Status.PRODUCTION,
    STAGE_ARCHIVED: Status.ARCHIVED,
}

ALIASED = frozenset({Status.TESTING, Status.STAGING, Status.PRODUCTION})
"""Statuses whose name is an alias as well: of the version that came to it last."""

IN_USE = frozenset({Status.STAGING, Status.PRODUCTION})
"""Statuses others rely on: such a version is not deleted, and its model keeps its name."""


def status_of_stage(stage: str) -> Status:
    """What a stage means, in any spelling that MLflow takes."""
    return _OF_STAGE[get_canonical_stage(stage)]


def not_allowed(move: Move, *, served: bool) -> Refusal | None:
    """Why the table of moves has no room for this one; None if it has."""
    ways = MOVES[move.before] - (frozenset() if served else _for_what_served(move.before))
    if move.after in ways:
        return None
    towards = _first_step(move.before, move.after)
    return Refusal(
        "lifecycle",
        f"move it to {towards} first" if towards else f"from {move.before} it can go to {_either(ways)}",
        f"{move.model}/{move.version} is in {move.before}, and there is no way from there to {move.after}",
    )


def _for_what_served(before: Status) -> frozenset[Status]:
    return frozenset({Status.PRODUCTION}) if before is Status.ARCHIVED else frozenset()


def _first_step(before: Status, after: Status) -> Status | None:
    """The status on the way, where one step lies between."""
    return next((middle for middle in Status if middle in MOVES[before] and after in MOVES[middle]), None)


def _either(statuses: frozenset[Status]) -> str:
    names = [status.value for status in Status if status in statuses]
    return " or ".join(", ".join(names).rsplit(", ", 1))
