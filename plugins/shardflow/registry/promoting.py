"""Carries out a move that somebody asked for, in whatever words: plans it, has it judged, writes it and notes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shardflow.registry.audit import MOVED, Event
from shardflow.registry.facts import VersionFacts
from shardflow.registry.gate import Case, Gate, Hearing
from shardflow.registry.lifecycle import MOVES, STAGES, not_allowed
from shardflow.registry.moving import Standing, in_production, place, standings
from shardflow.registry.naming import require_name
from shardflow.registry.prompts import is_prompt
from shardflow.registry.refusals import CONFLICT, refused_move
from shardflow.registry.tables import Database
from shardflow.registry.terms import Actor, Move, Refusal, Status


@dataclass(frozen=True, slots=True)
class Wanted:
    """A move as it is asked for."""

    model: str
    version: int
    after: Status
    actor: Actor
    via: str
    """The words it was asked in: stage, alias or tag."""
    reason: str | None = None
    archive_others: bool = False
    """Whether others that are where it goes are to be archived. In production there is room for one in any case."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a wish comes to: moves of one model, the wanted one first unless the version is there already."""

    wanted: Move
    moves: tuple[Move, ...]
    found: tuple[Standing, ...]


def planned(db: Database, wanted: Wanted, at: float) -> Plan | None:
    """The plan for a wish; None if there is no such version, or it is one of a prompt.

    Refused is one for a model whose name is spelt otherwise.
    """
    found = standings(db, wanted.model, wanted.version)
    here = next((one for one in found if one.facts.version == wanted.version), None)
    if here is None or (not here.kept and is_prompt(db, wanted.model)):  # of prompts no facts are kept
        return None
    require_name(here.facts.model, wanted.model, MOVED, wanted.version)
    move = _move(here, wanted, at, wanted.after, wanted.reason)
    giving_way = f"gives way to version {wanted.version}"
    others = [_move(one, wanted, at, Status.ARCHIVED, giving_way) for one in _in_the_way(found, wanted)]
    return Plan(move, (*([] if move.before is move.after else [move]), *others), tuple(found))


def imagined(wanted: Wanted, at: float) -> list[Move]:
    """The moves that a wish may come to, before anybody looked where its version is and who has to give way."""
    ways = [(before, wanted.after) for before, after in MOVES.items() if wanted.after in after]
    if wanted.archive_others or wanted.after is Status.PRODUCTION:
        ways.append((wanted.after, Status.ARCHIVED))
    return [Move(wanted.model, wanted.version, *way, wanted.actor, at, wanted.reason) for way in ways]


def cases(db: Database, gate: Gate[Any], plan: Plan) -> list[Case[Any] | Hearing]:
    """What the registry knows about each move of a plan; those that the lifecycle does not have are judged by it."""
    known = {one.facts.version: one.facts for one in plan.found}
    return [_case(db, gate, move, known[move.version]) for move in plan.moves]


def hearings(gate: Gate[Any], found: Sequence[Case[Any] | Hearing]) -> list[Hearing]:
    """What lifecycle and policy say about each of these moves."""
    return [one if isinstance(one, Hearing) else gate.hear(one) for one in found]


def carried_out(db: Database, wanted: Wanted, plan: Plan, heard: Sequence[Hearing]) -> list[Event]:
    """Write the moves of a plan, or raise what stands against one; gives what is to be noted."""
    for hearing in heard:
        if hearing.refusals:
            raise _refused(plan.wanted, hearing)
    if plan.moves:
        place(db, plan.moves, plan.found)
    return [_event(hearing, wanted) for hearing in heard]


def now() -> float:
    """The time, as finely as the tables keep it."""
    return round(time.time(), 3)


def _in_the_way(found: Sequence[Standing], wanted: Wanted) -> list[Standing]:
    others = [one for one in found if one.facts.version != wanted.version]
    if wanted.after is Status.PRODUCTION:
        return in_production(others)
    if wanted.archive_others:
        return [one for one in others if one.facts.status is wanted.after or one.stage == STAGES[wanted.after]]
    return []


def _move(standing: Standing, wanted: Wanted, at: float, after: Status, reason: str | None) -> Move:
    facts = standing.facts
    return Move(facts.model, facts.version, facts.status, after, wanted.actor, at, reason)


def _case(db: Database, gate: Gate[Any], move: Move, known: VersionFacts) -> Case[Any] | Hearing:
    impossible = not_allowed(move, served=known.served)
    return Hearing(move, (impossible,)) if impossible else gate.case(db, move, known)


def _refused(wanted: Move, hearing: Hearing) -> Exception:
    refusals = hearing.refusals
    if hearing.move.version != wanted.version:
        other = hearing.move
        aside = f"{other.model}/{other.version} would have to give way, and"
        refusals = tuple(Refusal(one.rule, one.remedy, f"{aside} {one.found}") for one in refusals)
    impossible = any(refusal.rule == "lifecycle" for refusal in refusals)
    return refused_move(wanted, refusals, **({"code": CONFLICT} if impossible else {}))


def _event(hearing: Hearing, wanted: Wanted) -> Event:
    move = hearing.move
    return Event(
        MOVED,
        move.model,
        move.actor,
        move.at,
        move.version,
        move.before.value,
        move.after.value,
        reason=move.reason,
        evidence={"via": wanted.via, **hearing.grounds},
    )
