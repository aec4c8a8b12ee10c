"""Lets the database itself refuse to change or remove rows of a table; for whoever gets at it without this package."""

from __future__ import annotations

from sqlalchemy import Connection, text

_REFUSAL = "rows of {table} are never changed or removed"

_SQLITE = (
    "CREATE TRIGGER IF NOT EXISTS {table}_{verb} BEFORE {verb} ON {table} BEGIN SELECT RAISE(ABORT, '{refusal}'); END"
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


def forbid_changes(connection: Connection, table: str) -> None:
    """From here on this table only grows, on the databases that can be told so."""
    refuse = f"EXECUTE FUNCTION {table}_stays()"
    words = {"table": table, "refusal": _REFUSAL.format(table=table), "refuse": refuse}
    for statement in _statements(connection.dialect.name):
        connection.execute(text(statement.format(**words)))


def _statements(dialect: str) -> list[str]:
    if dialect == "postgresql":
        return [_POSTGRESQL_FUNCTION, *_POSTGRESQL]
    patterns = [_SQLITE] if dialect == "sqlite" else [_MYSQL_CLEARED, _MYSQL]
    return [pattern.replace("{verb}", verb) for verb in ("UPDATE", "DELETE") for pattern in patterns]
