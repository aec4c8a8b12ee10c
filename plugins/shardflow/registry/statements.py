"""Signed statements about model versions, as the registry keeps them: bytes of some kind, under their own digest.

Nothing here reads or trusts them: that is done when a move is judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blake3 import blake3
from sqlalchemy import delete, insert, select, update

from shardflow.registry.tables import STATEMENTS, Database, milliseconds, seconds


@dataclass(frozen=True, slots=True)
class Statement:
    """One signed statement, as it was handed in."""

    model: str
    version: int
    kind: str
    body: bytes
    at: float

    @property
    def digest(self) -> str:
        return blake3(self.body).hexdigest()


def add_statement(db: Database, statement: Statement) -> bool:
    """Keep a statement; False if it was kept already."""
    where = _of(statement.model, statement.version)
    known = select(STATEMENTS.c.digest).where(*where, STATEMENTS.c.digest == statement.digest)
    if db.execute(known).first():
        return False
    db.execute(
        insert(STATEMENTS).values(
            model=statement.model,
            version=statement.version,
            digest=statement.digest,
            kind=statement.kind,
            at=milliseconds(statement.at),
            body=statement.body,
        )
    )
    return True


def statements_of(db: Database, model: str, version: int, kind: str | None = None) -> list[Statement]:
    """The statements about a version, of one kind or all, oldest first."""
    query = select(STATEMENTS).where(*_of(model, version)).order_by(STATEMENTS.c.at, STATEMENTS.c.digest)
    if kind is not None:
        query = query.where(STATEMENTS.c.kind == kind)
    return [Statement(row.model, row.version, row.kind, row.body, seconds(row.at)) for row in db.execute(query)]


def forget_statements(db: Database, model: str, version: int | None = None) -> None:
    query = delete(STATEMENTS).where(STATEMENTS.c.model == model)
    db.execute(query if version is None else query.where(STATEMENTS.c.version == version))


def rename_statements(db: Database, model: str, new_name: str) -> None:
    db.execute(update(STATEMENTS).where(STATEMENTS.c.model == model).values(model=new_name))


def _of(model: str, version: int) -> tuple[Any, Any]:
    return STATEMENTS.c.model == model, STATEMENTS.c.version == version
