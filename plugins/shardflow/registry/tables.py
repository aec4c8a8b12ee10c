"""The tables that stand beside MLflow's in its registry database, and how they come to be there.

MLflow's own tables stay as they are. Names of models follow a rename there; rows of the audit never change.
Typed access is in `facts` (versions), `parents` (lineage), `statements` (signed evidence), `audit` and `deployments`.
All of these take an open session or connection, so that what they write is part of the caller's transaction.
Times are milliseconds since 1970 in the database, as in MLflow's tables, and seconds everywhere else.
"""

from __future__ import annotations

import time
from typing import TypeAlias

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Dialect,
    Engine,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.schema import SchemaItem

from shardflow.errors import ShardflowError
from shardflow.registry.triggers import are_forbidden, forbid_changes

SCHEMA_VERSION = 1
_PATIENCE = 20
_PAUSE_SECONDS = 0.25

Database: TypeAlias = Session | Connection
"""What a statement can be executed on."""


class NewerDatabase(ShardflowError):
    """A database whose tables a later release has made."""


class UnusableDatabase(ShardflowError):
    """A database in which the tables are not and cannot be made."""


METADATA = MetaData()


def _table(name: str, *parts: SchemaItem) -> Table:
    return Table(name, METADATA, *parts, mysql_charset="utf8mb4", mysql_engine="InnoDB")


SCHEMA = _table(
    "shardflow_schema",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
)

VERSIONS = _table(
    "shardflow_versions",
    Column("model", String(256), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("status", String(16), nullable=False),
    Column("entered_at", BigInteger, nullable=True),  # unknown for what was registered before these tables came
    Column("author", String(256), nullable=True),
    Column("served", Boolean, nullable=False),  # has been in production
    Column("semantic", String(128), nullable=True),
    Column("major", Integer, nullable=True),
    Column("minor", Integer, nullable=True),
    Column("patch", Integer, nullable=True),
    Column("pre", String(96), nullable=True),
    Index("shardflow_versions_semantic", "model", "semantic", unique=True),
    Index("shardflow_versions_status", "model", "status"),
)

PARENTS = _table(
    "shardflow_parents",
    Column("child_model", String(256), primary_key=True),
    Column("child_version", Integer, primary_key=True, autoincrement=False),
    Column("parent_model", String(256), primary_key=True),
    # 0: the parent is none of this registry, and parent_model is what it is called where it comes from
    Column("parent_version", Integer, primary_key=True, autoincrement=False),
    Column("relation", String(32), nullable=False),
    Index("shardflow_parents_up", "parent_model", "parent_version"),
)

STATEMENTS = _table(
    "shardflow_statements",
    Column("model", String(256), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("body", LargeBinary(1 << 24), nullable=False),
)

AUDIT = _table(
    "shardflow_audit",
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(256), nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("action", String(32), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=True),
    Column("before", String(256), nullable=True),
    Column("after", String(256), nullable=True),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=True),
    Column("evidence", Text, nullable=True),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Index("shardflow_audit_model", "model", "version", "seq"),
)

AUDIT_HEAD = _table(
    "shardflow_audit_head",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)

DEPLOYMENTS = _table(
    "shardflow_deployments",
    Column("id", Integer, primary_key=True),
    Column("target", String(256), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("actor", String(256), nullable=False),
    Column("verified", Boolean, nullable=False),
    Column("note", Text, nullable=True),
    Index("shardflow_deployments_target", "target", "at"),
    Index("shardflow_deployments_model", "model", "version"),
)


def prepare(engine: Engine) -> None:
    """Make the tables where they are not, or refuse a database that a later release has changed."""
    for attempt in range(_PATIENCE):
        if _are_there(engine):
            return
        try:
            _make(engine)
        except DBAPIError as error:  # most likely another worker of the same server makes them at this moment
            if attempt == _PATIENCE - 1:
                raise UnusableDatabase(
                    f"the registry's tables cannot be made: {error.orig}",
                    remedy="give the database's user the right to create tables and triggers",
                ) from error
            time.sleep(_PAUSE_SECONDS)


def _are_there(engine: Engine) -> bool:
    if not inspect(engine).has_table(SCHEMA.name):
        return False
    with engine.connect() as connection:
        found = connection.execute(select(SCHEMA.c.version)).scalar()
        whole = are_forbidden(connection, AUDIT.name)
    if found is not None and found > SCHEMA_VERSION:
        raise NewerDatabase(
            f"the registry's tables are of version {found}, and this release knows version {SCHEMA_VERSION}",
            remedy="install the newest shardflow here",
        )
    return found is not None and whole


def _make(engine: Engine) -> None:
    METADATA.create_all(engine)
    with engine.begin() as connection:
        forbid_changes(connection, AUDIT.name, AUDIT.c.seq.name)
        if connection.execute(select(AUDIT_HEAD.c.id)).first() is None:
            connection.execute(AUDIT_HEAD.insert().values(id=1, seq=0, hash=""))
        # Written last: whoever finds this row finds everything.
        if connection.execute(select(SCHEMA.c.id)).first() is None:
            connection.execute(SCHEMA.insert().values(id=1, version=SCHEMA_VERSION))


def dialect_of(db: Database) -> Dialect:
    """Which kind of database this is."""
    return (db.connection() if isinstance(db, Session) else db).dialect


def seconds(at: int) -> float:
    return at / 1000


def milliseconds(at: float) -> int:
    return round(at * 1000)
