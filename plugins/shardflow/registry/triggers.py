"""Lets the database itself refuse to change or remove rows of a table; for whoever gets at it without this package."""

from __future__ import annotations

from sqlalchemy import Connection, text

_REFUSAL = "rows of {table} are never changed or removed"

_SQLITE = (
    "CREATE TRIGGER IF NOT EXISTS {table}_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
)
# REPLACE removes rows without a word to the trigger for that, by their key or by what SQLite numbers them with.
_SQLITE_REPLACED = (
    "CREATE TRIGGER IF NOT EXISTS {table}_INSERT BEFORE INSERT ON {table} "
    "WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key} OR rowid = NEW.rowid) "
    "BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
)
_POSTGRESQL_FUNCTION = (
    "CREATE OR REPLACE FUNCTION {table}_stays() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION '{refusal}'; END $$"
)
_POSTGRESQL = (
    "CREATE TRIGGER {table}_stays BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION {table}_stays()",
    "CREATE TRIGGER {table}_stays_whole BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION {table}_stays()",
)
_MYSQL_CLEARED = "DROP TRIGGER IF EXISTS {table}_{verb}"  # it commits each alone: a server may have died after one
_MYSQL = (
    "CREATE TRIGGER {table}_{verb} BEFORE {verb} ON {table} "
    "FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{refusal}'"
)


def forbid_changes(connection: Connection, table: str, key: str) -> None:
    """From here on this table only grows, on the databases that can be told so."""
    words = {"table": table, "key": key, "refusal": _REFUSAL.format(table=table)}
    for statement in _statements(connection.dialect.name):
        connection.execute(text(statement.format(**words)))


def are_forbidden(connection: Connection, table: str) -> bool:
    """Whether a table has all of its triggers: in SQLite it may be from before the one that is made last."""
    if connection.dialect.name != "sqlite":
        return True
    query = text("SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND name = :name")
    return connection.execute(query, {"name": f"{table}_INSERT"}).first() is not None


def _statements(dialect: str) -> list[str]:
    if dialect == "postgresql":
        return [_POSTGRESQL_FUNCTION, *_POSTGRESQL]
    patterns = [_SQLITE] if dialect == "sqlite" else [_MYSQL_CLEARED, _MYSQL]
    changes = [pattern.replace("{verb}", verb) for verb in ("UPDATE", "DELETE") for pattern in patterns]
    return [*changes, _SQLITE_REPLACED] if dialect == "sqlite" else changes
