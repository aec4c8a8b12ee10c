"""The trail of what was done to the registry and what was refused: each row has the hash of the one before.

A row's hash is the BLAKE3 of a JSON array, in UTF-8 and without spaces:

    [seq, previous, at, actor, verified, action, model, version, before, after, outcome, reason, evidence]

where `at` is in milliseconds, `previous` the hash of row seq - 1 (empty for row 1), `evidence` the text of a JSON
object, and what is not known is null. The last row's number and hash stand in a table of their own as well, so that a
row cut off at the end is missed. Whoever can write to the database can forge both: note what `shardflow audit verify`
prints elsewhere, and give it back with --since.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from blake3 import blake3
from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, func, insert, or_, select, update

from shardflow.registry.at_once import append_at_once, takes_all_at_once
from shardflow.registry.tables import AUDIT, AUDIT_HEAD, Database, milliseconds
from shardflow.registry.terms import Actor

DONE, REFUSED = "done", "refused"
CREATED, MOVED, TAGGED, RENAMED, DESCRIBED, DELETED = "create", "move", "tag", "rename", "describe", "delete"
LONGEST = 256

_LOCK = update(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1).values(id=1)
_LOCKED = _LOCK.returning(AUDIT_HEAD.c.seq, AUDIT_HEAD.c.hash)
_HEAD = select(AUDIT_HEAD.c.seq, AUDIT_HEAD.c.hash).where(AUDIT_HEAD.c.id == 1)
_ADVANCE = (
    update(AUDIT_HEAD)
    .where(AUDIT_HEAD.c.id == 1, AUDIT_HEAD.c.seq == bindparam("from_seq"))
    .values(seq=bindparam("to_seq"), hash=bindparam("to_hash"))
)
_APPEND = insert(AUDIT)


@dataclass(frozen=True, slots=True)
class Event:
    """What is to be noted: who did or wanted what."""

    action: str
    model: str
    actor: Actor
    at: float
    version: int | None = None
    before: str | None = None
    after: str | None = None
    outcome: str = DONE
    reason: str | None = None
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the trail, as it is in the database."""

    seq: int
    previous: str
    at: int
    actor: str
    verified: bool
    action: str
    model: str
    version: int | None
    before: str | None
    after: str | None
    outcome: str
    reason: str | None
    evidence: str | None
    hash: str = ""

    def computed(self) -> str:
        """The hash that belongs to these words."""
        words = [getattr(self, name) for name in self.__slots__ if name != "hash"]
        return blake3(json.dumps(words, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        evidence = None if self.evidence is None else json.loads(self.evidence)
        return {**asdict(self), "evidence": evidence}


@dataclass(frozen=True, slots=True)
class Head:
    """The last row of the trail: its number and its hash."""

    seq: int
    hash: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash}"


def take_turn(db: Connection) -> Head:
    """Wait until nobody else writes to the trail, and keep it so until the transaction ends.

    Everything that changes the registry takes its turn first: that is what makes two promotions at once safe. An update
    takes the lock on every database; a locking read would not on SQLite.
    """
    if not db.dialect.update_returning:
        db.execute(_LOCK)
        return head_of(db)
    row = db.execute(_LOCKED).one()
    return Head(row.seq, row.hash)


def head_of(db: Database) -> Head:
    row = db.execute(_HEAD).one()
    return Head(row.seq, row.hash)


def rows_of(db: Database) -> int:
    """How many rows there are."""
    return int(db.execute(select(func.count()).select_from(AUDIT)).scalar_one())


def note(db: Connection, *events: Event, head: Head | None = None) -> None:
    """Add rows to the trail, as part of the caller's transaction; `head` is what its turn began with."""
    if not events:
        return
    head = head or take_turn(db)
    last, rows = head, list[dict[str, Any]]()
    for event in events:
        entry = _entry(event, last)
        last = Head(entry.seq, entry.hash)
        rows.append({name: getattr(entry, name) for name in Entry.__slots__})
    if not _appended(db, head, last, rows):
        # The turn was lost: MLflow begins a transaction anew where a version's number was taken.
        note(db, *events)


def _appended(db: Connection, head: Head, last: Head, rows: list[dict[str, Any]]) -> bool:
    if takes_all_at_once(db):
        return append_at_once(db, head.seq, last.seq, last.hash, rows)
    moved: Any = db.execute(_ADVANCE, {"from_seq": head.seq, "to_seq": last.seq, "to_hash": last.hash})
    if moved.rowcount:
        db.execute(_APPEND, rows)
    return bool(moved.rowcount)


def entries(
    db: Database, model: str | None = None, version: int | None = None, *, after: int = 0, limit: int | None = None
) -> list[Entry]:
    """Rows in their order: all, or those of a model under each of its names, or those of one version."""
    query = select(AUDIT).where(AUDIT.c.seq > after).order_by(AUDIT.c.seq).limit(limit)
    if model is not None:
        query = query.where(_about(db, model))
    if version is not None:
        query = query.where(or_(AUDIT.c.version == version, AUDIT.c.version.is_(None)))
    return [_read(row) for row in db.execute(query)]


def whole_trail(db: Database) -> Iterator[Entry]:
    """Every row there is, a page at a time, so that a long trail needs no memory."""
    page = entries(db, limit=1000)
    while page:
        yield from page
        page = entries(db, after=page[-1].seq, limit=1000)


def _entry(event: Event, head: Head) -> Entry:
    evidence = None if event.evidence is None else json.dumps(event.evidence, sort_keys=True, ensure_ascii=False)
    entry = Entry(
        head.seq + 1,
        head.hash,
        milliseconds(event.at),
        event.actor.name,
        event.actor.verified,
        event.action,
        event.model[:LONGEST],
        event.version,
        event.before and event.before[:LONGEST],
        event.after and event.after[:LONGEST],
        event.outcome,
        event.reason,
        evidence,
    )
    return replace(entry, hash=entry.computed())


def _read(row: Row[Any]) -> Entry:
    return Entry(**{name: getattr(row, name) for name in Entry.__slots__})


def _about(db: Database, model: str) -> ColumnElement[bool]:
    """Rows under the name that a model has, and under those it had up to each rename."""
    query = select(AUDIT.c.seq, AUDIT.c.model, AUDIT.c.after).where(AUDIT.c.action == RENAMED, AUDIT.c.outcome == DONE)
    renames = [tuple(row) for row in db.execute(query.order_by(AUDIT.c.seq.desc()))]
    name, spans, until = model, [AUDIT.c.model == model], None
    for seq, old, new in renames:
        if new == name and (until is None or seq < until):
            name, until = old, seq
            spans.append(and_(AUDIT.c.model == old, AUDIT.c.seq <= seq))
    return or_(*spans)
