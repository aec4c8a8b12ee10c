"""Moves versions between statuses inside an act: reads who stands where, and writes what MLflow's pages show of it.

What a status means to MLflow (stage, aliases, a tag) is written with few statements, because every move pays for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL, STAGE_PRODUCTION
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
)
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import Row, Update, and_, bindparam, delete, insert, or_, select, update

from shardflow.registry.at_once import Placed, place_at_once, takes_all_at_once
from shardflow.registry.facts import SET_STATUS, VersionFacts, facts_of_row, put_facts, status_row
from shardflow.registry.lifecycle import ALIASED, STAGES, status_of_stage
from shardflow.registry.tables import VERSIONS, Database, milliseconds, seconds
from shardflow.registry.terms import Move, Status

STATUS_TAG = "shardflow.status"

_VERSION = SqlModelVersion.__table__
_MODEL = SqlRegisteredModel.__table__
_TAG = SqlModelVersionTag.__table__
_ALIAS = SqlRegisteredModelAlias.__table__

# The primary keys of MLflow's tables begin with the workspace, of which a store like this one has one.
_OURS = DEFAULT_WORKSPACE_NAME

# Statements are built once: building them would cost as much as executing them.
_ALL = (
    select(
        _MODEL.c.name.label("known_as"),  # that of a version may be spelt otherwise, in databases that do not mind
        _VERSION.c.version.label("number"),
        _VERSION.c.current_stage,
        _VERSION.c.last_updated_time,
        VERSIONS,
    )
    .select_from(
        _VERSION.join(
            _MODEL, and_(_MODEL.c.workspace == _VERSION.c.workspace, _MODEL.c.name == _VERSION.c.name)
        ).outerjoin(VERSIONS, and_(VERSIONS.c.model == _VERSION.c.name, VERSIONS.c.version == _VERSION.c.version))
    )
    .where(
        _VERSION.c.workspace == _OURS,
        _VERSION.c.name == bindparam("model"),
        _VERSION.c.current_stage != STAGE_DELETED_INTERNAL,
    )
    .order_by(_VERSION.c.version)
)
_BESIDE = _ALL.where(
    or_(
        _VERSION.c.version == bindparam("number"),
        _VERSION.c.current_stage.in_([STAGES[Status.STAGING], STAGES[Status.PRODUCTION]]),
        VERSIONS.c.status == Status.TESTING.value,
    )
)
_SET_TAG = (
    update(_TAG)
    .where(
        _TAG.c.workspace == _OURS,
        _TAG.c.name == bindparam("b_name"),
        _TAG.c.version == bindparam("b_version"),
        _TAG.c.key == bindparam("b_key"),
    )
    .values(value=bindparam("b_value"))
)
_SET_ALIAS = (
    update(_ALIAS)
    .where(_ALIAS.c.workspace == _OURS, _ALIAS.c.name == bindparam("b_name"), _ALIAS.c.alias == bindparam("b_alias"))
    .values(version=bindparam("b_version"))
)
_ALIASES = (
    select(_ALIAS.c.alias)
    .where(
        _ALIAS.c.workspace == _OURS,
        _ALIAS.c.name == bindparam("b_name"),
        _ALIAS.c.version == bindparam("b_version"),
    )
    .order_by(_ALIAS.c.alias)
)
_REMOVE_ALIAS = delete(_ALIAS).where(
    _ALIAS.c.workspace == _OURS, _ALIAS.c.name == bindparam("b_name"), _ALIAS.c.alias == bindparam("b_alias")
)
_SET_STAGE = (
    update(_VERSION)
    .where(
        _VERSION.c.workspace == _OURS,
        _VERSION.c.name == bindparam("b_name"),
        _VERSION.c.version == bindparam("b_version"),
    )
    .values(current_stage=bindparam("b_stage"), last_updated_time=bindparam("b_now"))
)

_SET_MODEL = (
    update(_MODEL)
    .where(_MODEL.c.workspace == _OURS, _MODEL.c.name == bindparam("b_name"))
    .values(last_updated_time=bindparam("b_now"))
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A version of a model as MLflow and the registry have it."""

    facts: VersionFacts
    stage: str
    kept: bool
    """Whether its facts are in the table; those of a version from before are derived from its stage."""


def standings(db: Database, model: str, version: int | None = None) -> list[Standing]:
    """The versions of a model, or one of them with those that others may have to give way to or follow."""
    if version is None:
        rows = db.execute(_ALL, {"model": model})
    else:
        rows = db.execute(_BESIDE, {"model": model, "number": version})
    return [_standing(row) for row in rows]


def in_production(found: Sequence[Standing]) -> list[Standing]:
    """What stands in production by its status or, set around the registry, by its stage alone."""
    return [one for one in found if one.facts.status is Status.PRODUCTION or one.stage == STAGE_PRODUCTION]


def place(db: Database, moves: Sequence[Move], found: Sequence[Standing]) -> None:
    """Write that versions have come to other statuses; all moves are of one model."""
    standing = {one.facts.version: one.facts for one in found}
    new = {one.facts.version for one in found if not one.kept}
    for move in moves:
        before = standing[move.version]
        served = before.served or move.after is Status.PRODUCTION
        standing[move.version] = replace(before, status=move.after, entered_at=move.at, served=served)
    followed, left = _followers(moves, list(standing.values()))
    placed = [standing[move.version] for move in moves]
    for facts in placed:
        if facts.version in new:
            put_facts(db, facts, new=True)
    write = _write_at_once if takes_all_at_once(db) else _write
    there = write(db, moves, placed, followed)
    if there.tags != len(moves):  # somebody took a tag away around the registry, or it was never there
        for move in moves:
            write_tag(db, move.model, move.version, STATUS_TAG, move.after.value)
    if there.aliases != len(followed):
        for alias, version in followed.items():
            write_alias(db, moves[0].model, alias, version)
    for status in left:
        remove_alias(db, moves[0].model, status)


def follow(db: Database, model: str, gone: int) -> None:
    """Let who came before it have the alias of a status that went with a version; only one in testing can go."""
    alias = Status.TESTING.value
    if alias_target(db, model, alias) is None:
        last = _last_in(Status.TESTING, (one.facts for one in standings(db, model, gone)))
        if last is not None:
            write_alias(db, model, alias, last.version)


def write_tag(db: Database, model: str, version: int, key: str, value: str) -> None:
    """Set one tag of a version, past every rule about tags."""
    row = {"b_name": model, "b_version": version, "b_key": key, "b_value": value}
    if not _changed(db, _SET_TAG, row):
        db.execute(insert(_TAG).values(name=model, version=version, key=key, value=value))


def remove_tag(db: Database, model: str, version: int, key: str) -> None:
    where = (_TAG.c.workspace == _OURS, _TAG.c.name == model, _TAG.c.version == version, _TAG.c.key == key)
    db.execute(delete(_TAG).where(*where))


def write_alias(db: Database, model: str, alias: str, version: int) -> None:
    """Point one alias at a version, past every rule about aliases."""
    if not _changed(db, _SET_ALIAS, {"b_name": model, "b_alias": alias, "b_version": version}):
        db.execute(insert(_ALIAS).values(name=model, alias=alias, version=version))


def remove_alias(db: Database, model: str, alias: str) -> None:
    db.execute(_REMOVE_ALIAS, {"b_name": model, "b_alias": alias})


def alias_target(db: Database, model: str, alias: str) -> int | None:
    where = (_ALIAS.c.workspace == _OURS, _ALIAS.c.name == model, _ALIAS.c.alias == alias)
    return db.execute(select(_ALIAS.c.version).where(*where)).scalar()


def aliases_of(db: Database, model: str, version: int) -> list[str]:
    """The aliases of one version."""
    return list(db.execute(_ALIASES, {"b_name": model, "b_version": version}).scalars())


def version_tags(db: Database, model: str, version: int) -> dict[str, str]:
    where = (_TAG.c.workspace == _OURS, _TAG.c.name == model, _TAG.c.version == version)
    return {row.key: row.value for row in db.execute(select(_TAG.c.key, _TAG.c.value).where(*where))}


def _changed(db: Database, change: Update, values: dict[str, Any] | list[dict[str, Any]]) -> int:
    """How many rows an update has found."""
    done: Any = db.execute(change, values)
    return int(done.rowcount)


def _write(db: Database, moves: Sequence[Move], placed: Sequence[VersionFacts], followed: dict[str, int]) -> Placed:
    """The rows of versions that moved, and of the aliases that follow them, as far as they are there."""
    db.execute(SET_STATUS, [status_row(facts) for facts in placed])
    tags = [{"b_name": one.model, "b_version": one.version, "b_key": STATUS_TAG, "b_value": one.after} for one in moves]
    changed = _changed(db, _SET_TAG, tags)
    db.execute(_SET_STAGE, [_stage_of(move) for move in moves])
    model = moves[0].model
    db.execute(_SET_MODEL, {"b_name": model, "b_now": milliseconds(moves[0].at)})
    aliases = [{"b_name": model, "b_alias": alias, "b_version": version} for alias, version in followed.items()]
    return Placed(changed, _changed(db, _SET_ALIAS, aliases) if aliases else 0)


def _write_at_once(
    db: Database, moves: Sequence[Move], placed: Sequence[VersionFacts], followed: dict[str, int]
) -> Placed:
    rows = [
        {
            "version": move.version,
            "status": move.after.value,
            "stage": STAGES[move.after],
            "at": milliseconds(move.at),
            "served": facts.served,
        }
        for move, facts in zip(moves, placed, strict=True)
    ]
    which = {"model": moves[0].model, "workspace": _OURS, "tag": STATUS_TAG, "at": milliseconds(moves[0].at)}
    return place_at_once(db, which, rows, followed)


def _stage_of(move: Move) -> dict[str, Any]:
    now = milliseconds(move.at)
    return {"b_name": move.model, "b_version": move.version, "b_stage": STAGES[move.after], "b_now": now}


def _followers(moves: Sequence[Move], found: Sequence[VersionFacts]) -> tuple[dict[str, int], list[str]]:
    """The alias of a status follows the version that came to it last; with nobody there it goes."""
    touched = {status for move in moves for status in (move.before, move.after)} & ALIASED
    followed, left = dict[str, int](), list[str]()
    for status in sorted(touched):
        last = _last_in(status, found)
        if last is None:
            left.append(status.value)
        else:
            followed[status.value] = last.version
    return followed, left


def _last_in(status: Status, found: Iterable[VersionFacts]) -> VersionFacts | None:
    here = [facts for facts in found if facts.status is status]
    return max(here, key=lambda facts: (facts.entered_at or 0.0, facts.version), default=None)


def _standing(row: Row[Any]) -> Standing:
    if row.status is not None:
        return Standing(replace(facts_of_row(row), model=row.known_as), row.current_stage, kept=True)
    status = status_of_stage(row.current_stage)
    since = None if row.last_updated_time is None else seconds(row.last_updated_time)
    derived = VersionFacts(row.known_as, row.number, status, since, served=status is Status.PRODUCTION)
    return Standing(derived, row.current_stage, kept=False)
