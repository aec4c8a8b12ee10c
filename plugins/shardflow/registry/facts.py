"""What the registry knows of a model version beyond MLflow: status, semantic version, author, since when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, delete, insert, select, update

from shardflow.registry.tables import VERSIONS, Database, milliseconds, seconds
from shardflow.registry.terms import Status


@dataclass(frozen=True, slots=True)
class Semantic:
    """A semantic version in its parts; `text` is the whole of it, without build metadata."""

    text: str
    major: int
    minor: int
    patch: int
    pre: str = ""
    """What stands after the dash; empty for a release, which comes after all of its own pre-releases."""


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """One model version, as the registry knows it."""

    model: str
    version: int
    status: Status
    entered_at: float | None
    """When it came to its status; None if that was before the registry kept such things."""
    author: str | None = None
    served: bool = False
    """Whether it has ever been in production."""
    semantic: Semantic | None = None


SET_STATUS = (
    update(VERSIONS)
    .where(VERSIONS.c.model == bindparam("b_model"), VERSIONS.c.version == bindparam("b_version"))
    .values(status=bindparam("b_status"), entered_at=bindparam("b_entered_at"), served=bindparam("b_served"))
)
"""Writes the status of versions whose facts are kept: one row of `status_row` for each."""


def status_row(facts: VersionFacts) -> dict[str, Any]:
    return {
        "b_model": facts.model,
        "b_version": facts.version,
        "b_status": facts.status.value,
        "b_entered_at": None if facts.entered_at is None else milliseconds(facts.entered_at),
        "b_served": facts.served,
    }


def facts_row(db: Database, model: str, version: int) -> VersionFacts | None:
    """What is known of one version; None if it was registered before these tables came, or is not there."""
    query = select(VERSIONS).where(VERSIONS.c.model == model, VERSIONS.c.version == version)
    row = db.execute(query).first()
    return None if row is None else facts_of_row(row)


def facts_rows(db: Database, model: str, status: Status | None = None) -> list[VersionFacts]:
    """What is known of the versions of a model, oldest first."""
    query = select(VERSIONS).where(VERSIONS.c.model == model).order_by(VERSIONS.c.version)
    if status is not None:
        query = query.where(VERSIONS.c.status == status.value)
    return [facts_of_row(row) for row in db.execute(query)]


def are_kept(db: Database, model: str, version: int | None = None) -> bool:
    """Whether anything is known of a version, or of any version of a model. Of prompts nothing is."""
    query = select(VERSIONS.c.version).where(VERSIONS.c.model == model)
    query = query if version is None else query.where(VERSIONS.c.version == version)
    return db.execute(query.limit(1)).first() is not None


def version_of_semantic(db: Database, model: str, semantic: str) -> int | None:
    """The number of the version that carries a semantic version."""
    query = select(VERSIONS.c.version).where(VERSIONS.c.model == model, VERSIONS.c.semantic == semantic)
    return db.execute(query).scalar()


def put_facts(db: Database, facts: VersionFacts, *, new: bool) -> None:
    """Write all that is known of one version."""
    entered = None if facts.entered_at is None else milliseconds(facts.entered_at)
    values: dict[str, Any] = {
        "status": facts.status.value,
        "entered_at": entered,
        "author": facts.author,
        "served": facts.served,
        **_columns(facts.semantic),
    }
    if new:
        db.execute(insert(VERSIONS).values(model=facts.model, version=facts.version, **values))
    else:
        where = (VERSIONS.c.model == facts.model, VERSIONS.c.version == facts.version)
        db.execute(update(VERSIONS).where(*where).values(**values))


def forget_facts(db: Database, model: str, version: int | None = None) -> None:
    """Remove what is known of a version, or of all versions of a model."""
    query = delete(VERSIONS).where(VERSIONS.c.model == model)
    db.execute(query if version is None else query.where(VERSIONS.c.version == version))


def rename_facts(db: Database, model: str, new_name: str) -> None:
    """Know a model's versions under a new name. Another policy may hold for it: none of them has served there."""
    db.execute(update(VERSIONS).where(VERSIONS.c.model == model).values(model=new_name, served=False))


def _columns(semantic: Semantic | None) -> dict[str, Any]:
    if semantic is None:
        return dict.fromkeys(("semantic", "major", "minor", "patch", "pre"))
    return {
        "semantic": semantic.text,
        "major": semantic.major,
        "minor": semantic.minor,
        "patch": semantic.patch,
        "pre": semantic.pre,
    }


def facts_of_row(row: Row[Any]) -> VersionFacts:
    """The facts in a row that has all columns of the table."""
    semantic = None
    if row.semantic is not None:
        semantic = Semantic(row.semantic, row.major, row.minor, row.patch, row.pre)
    return VersionFacts(
        row.model,
        row.version,
        Status(row.status),
        None if row.entered_at is None else seconds(row.entered_at),
        row.author,
        row.served,
        semantic,
    )
