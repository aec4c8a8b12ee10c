"""What PostgreSQL does in one statement where other databases are told it in several, each a way there and back.

A statement may write to several tables there; what it is to write goes with it as JSON. Each of these does the same as
the plain way beside which it is called, and the tests of that hold for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from shardflow.registry.tables import Database, dialect_of

_PLACE = text("""
WITH moved AS (
    SELECT * FROM json_to_recordset(CAST(:moved AS json))
    AS moved(version int, status varchar, stage varchar, at bigint, served boolean)
), followed AS (
    SELECT * FROM json_to_recordset(CAST(:followed AS json)) AS followed(alias varchar, version int)
), facts AS (
    UPDATE shardflow_versions AS t SET status = moved.status, entered_at = moved.at, served = moved.served
    FROM moved WHERE t.model = :model AND t.version = moved.version
), stages AS (
    UPDATE model_versions AS t SET current_stage = moved.stage, last_updated_time = moved.at
    FROM moved WHERE t.workspace = :workspace AND t.name = :model AND t.version = moved.version
), models AS (
    UPDATE registered_models SET last_updated_time = :at WHERE workspace = :workspace AND name = :model
), tags AS (
    UPDATE model_version_tags AS t SET value = moved.status
    FROM moved WHERE t.workspace = :workspace AND t.name = :model AND t.version = moved.version AND t.key = :tag
    RETURNING 1
), aliases AS (
    UPDATE registered_model_aliases AS t SET version = followed.version
    FROM followed WHERE t.workspace = :workspace AND t.name = :model AND t.alias = followed.alias
    RETURNING 1
)
SELECT (SELECT count(*) FROM tags), (SELECT count(*) FROM aliases)
""")

_APPEND = text("""
WITH moved AS (
    UPDATE shardflow_audit_head SET seq = :to_seq, hash = :to_hash WHERE id = 1 AND seq = :from_seq RETURNING 1
)
INSERT INTO shardflow_audit
SELECT rows.* FROM moved CROSS JOIN json_populate_recordset(NULL::shardflow_audit, CAST(:rows AS json)) AS rows
""")


@dataclass(frozen=True, slots=True)
class Placed:
    """How many of the rows that show where versions are were there to be changed."""

    tags: int
    aliases: int


def takes_all_at_once(db: Database) -> bool:
    """Whether the database is one for these."""
    return dialect_of(db).name == "postgresql"


def place_at_once(
    db: Database, which: Mapping[str, Any], moved: Sequence[Mapping[str, Any]], followed: Mapping[str, int]
) -> Placed:
    """Write where versions of a model are now: their facts, stages and tags, and the aliases that follow them.

    `which` names the model, its workspace, the tag of a version that shows its status, and the time `at` of it all.
    """
    rows = [{"alias": alias, "version": version} for alias, version in followed.items()]
    given = {"moved": json.dumps([*moved]), "followed": json.dumps(rows)}
    return Placed(*db.execute(_PLACE, {**which, **given}).one())


def append_at_once(db: Database, from_seq: int, to_seq: int, to_hash: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Add rows to the trail and move its head; neither, and False, if the head is not where it was."""
    given = {"from_seq": from_seq, "to_seq": to_seq, "to_hash": to_hash, "rows": json.dumps([*rows])}
    done: Any = db.execute(_APPEND, given)
    return bool(done.rowcount)
