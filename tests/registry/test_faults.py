"""Processes that die, databases that go away, fill up or come from another release: clear errors, no half moves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import event, inspect, text

from registry.dying import at_statement
from registry.opened import Registry, Rules, opened
from shardflow.registry import tables
from shardflow.registry.trail import stages_told

TESTS = Path(__file__).parents[1]
SERVES, FOLLOWS = 1, 2


def with_two(registry: Registry) -> Registry:
    """Version 1 serves, version 2 is in staging."""
    registry.register(versions=2)
    registry.promote("llama", SERVES, "staging", "production")
    registry.promote("llama", FOLLOWS, "staging")
    return registry


def picture(registry: Registry) -> tuple[object, ...]:
    """All that a move writes."""
    versions = [registry.version("llama", version) for version in (SERVES, FOLLOWS)]
    shown = [(one.current_stage, sorted(one.aliases), one.tags) for one in versions]
    return shown, registry.statuses(), [row.hash for row in registry.trail()]


def moved(registry: Registry) -> bool:
    return registry.statuses() == {SERVES: "archived", FOLLOWS: "production"}


def test_a_process_killed_at_any_statement_of_a_promotion_leaves_nothing_half_done(sqlite_uri: str) -> None:
    with opened(sqlite_uri) as registry, victim(sqlite_uri) as dies_at:
        before = picture(with_two(registry))
        for statement in count(1):
            if not dies_at(statement):
                break
            assert picture(registry) == before
        assert statement > 10
        assert moved(registry)
        assert registry.verified().flaws == ()


def failure_of_promotion(registry: Registry) -> MlflowException | None:
    try:
        registry.store.transition_model_version_stage("llama", FOLLOWS, "Production", True)
    except MlflowException as error:
        return error
    return None


@contextmanager
def victim(uri: str) -> Iterator[Any]:
    """A process that can be told at which statement to die; it says whether there was one to die at."""
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "MLFLOW_DISABLE_TELEMETRY": "true"}
    argv = [sys.executable, "-m", "registry.dying", uri]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"

        def dies_at(statement: int) -> bool:
            print(statement, file=process.stdin, flush=True)
            return bool(process.stdout and process.stdout.readline() == "killed\n")

        yield dies_at
        process.stdin.close()


@pytest.mark.service("postgres")
def test_a_database_that_goes_away_at_any_statement_of_a_promotion_leaves_nothing_half_done(postgres_uri: str) -> None:
    import psycopg

    def cut(connection: Any) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid
        other.execute("SELECT pg_terminate_backend(%s)", (pid,))

    with (
        psycopg.connect(postgres_uri.replace("+psycopg", ""), autocommit=True) as other,
        opened(postgres_uri) as registry,
    ):
        before = picture(with_two(registry))
        for statement in count(1):
            with opened(postgres_uri) as unlucky:
                at_statement(unlucky.store.engine, statement, cut)
                failure = failure_of_promotion(unlucky)
            if failure is None:
                break
            assert failure.error_code == "TEMPORARILY_UNAVAILABLE"
            assert failure.message.startswith("Try again: the registry's database failed")
            assert "\n" not in failure.message
            assert picture(registry) == before
        assert statement > 5
        assert moved(registry)
        assert registry.verified().flaws == ()


@pytest.mark.service("postgres")
def test_a_connection_that_was_cut_is_made_anew_for_the_next_move(postgres_uri: str) -> None:
    import psycopg

    with opened(postgres_uri) as registry:
        with_two(registry)
        with psycopg.connect(postgres_uri.replace("+psycopg", ""), autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
        for _ in range(3):  # every connection that was waiting in the pool may answer once with an error
            failure = failure_of_promotion(registry)
            assert failure is None or failure.error_code == "TEMPORARILY_UNAVAILABLE"
        assert moved(registry)


def test_a_database_that_fails_while_it_is_asked_for_evidence_refuses_the_move_in_a_line(sqlite_uri: str) -> None:
    with opened(sqlite_uri, Rules(wanted=frozenset({"metrics"}))) as registry:
        registry.register()
        with registry.store.engine.begin() as db:
            db.execute(text("ALTER TABLE shardflow_versions RENAME TO gone"))
        with pytest.raises(MlflowException, match=r"^Try again: .*\(no such table") as told:
            registry.store.transition_model_version_stage("llama", 1, "Staging", False)
        assert told.value.error_code == "TEMPORARILY_UNAVAILABLE"


def test_a_full_disk_refuses_the_move_and_keeps_the_trail_whole(registry: Registry) -> None:
    registry.register()
    registry.store.engine.dispose()
    event.listen(registry.store.engine, "connect", no_room)
    with pytest.raises(MlflowException, match=r"Try again: the registry's database failed.*full") as failed:
        registry.promote("llama", 1, *[f"testing: {'x' * 900}", "draft"] * 100)
    assert failed.value.error_code == "TEMPORARILY_UNAVAILABLE"
    event.remove(registry.store.engine, "connect", no_room)
    registry.store.engine.dispose()
    statuses = {key[1]: status.value for key, status in stages_told(registry.trail()).items()}
    assert statuses == registry.statuses() == {1: registry.version("llama", 1).tags["shardflow.status"]}
    assert registry.verified().flaws == ()
    registry.promote("llama", 1, "staging")


def no_room(connection: Any, _: object) -> None:
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")


def test_a_database_that_somebody_else_holds_refuses_the_move_and_says_so(registry: Registry) -> None:
    import sqlite3

    with_two(registry)
    event.listen(registry.store.engine, "before_cursor_execute", impatient, retval=True)
    holder = sqlite3.connect(registry.uri.removeprefix("sqlite:///"), isolation_level=None)
    try:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(MlflowException, match=r"Try again: the registry's database failed.*locked"):
            registry.promote("llama", FOLLOWS, "production")
        holder.execute("ROLLBACK")
    finally:
        holder.close()
    registry.promote("llama", FOLLOWS, "production")
    assert moved(registry)


def impatient(_c: object, _cursor: object, statement: str, parameters: object, *_: object) -> tuple[str, object]:
    return statement.replace("busy_timeout = 20000", "busy_timeout = 20"), parameters


def test_a_database_from_a_newer_release_is_refused_with_what_to_do(database_uri: str) -> None:
    with opened(database_uri) as registry, registry.store.engine.begin() as connection:
        connection.execute(text("UPDATE shardflow_schema SET version = 2"))
    with pytest.raises(MlflowException) as refused, opened(database_uri):
        pass
    known = "the registry's tables are of version 2, and this release knows version 1"
    assert refused.value.message == f"install the newest shardflow here: {known}"


def test_a_server_that_died_while_it_made_the_tables_is_followed_by_one_that_ends_it(database_uri: str) -> None:
    with opened(database_uri) as registry:
        engine = registry.store.engine
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM shardflow_schema"))
            connection.execute(text("DELETE FROM shardflow_audit_head"))
            connection.execute(text("DROP TABLE shardflow_deployments"))
            if connection.dialect.name == "postgresql":  # where all of that is one transaction, triggers included
                connection.execute(text("DROP TRIGGER shardflow_audit_stays ON shardflow_audit"))
                connection.execute(text("DROP TRIGGER shardflow_audit_stays_whole ON shardflow_audit"))
        tables.prepare(engine)
        assert inspect(engine).has_table("shardflow_deployments")
        with_two(registry)
        assert registry.verified().flaws == ()


def test_a_database_in_which_no_tables_may_be_made_is_told_in_a_line(
    sqlite_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MLflow makes a directory named after such an address
    monkeypatch.setattr(tables, "_PAUSE_SECONDS", 0)
    read_only = f"sqlite:///file:{sqlite_uri.removeprefix('sqlite:///')}?mode=ro&uri=true"
    with pytest.raises(MlflowException) as refused, opened(read_only):
        pass
    assert refused.value.message.startswith("give the database's user the right to create tables and triggers: ")
    assert "\n" not in refused.value.message


def test_a_move_whose_refusal_cannot_be_noted_is_refused_all_the_same(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_two(registry)

    def broken(*_: object) -> None:
        raise MlflowException("no room")

    monkeypatch.setattr("shardflow.registry.gated.noting", broken)
    with pytest.raises(MlflowException, match="Move it to testing first"):
        registry.promote("llama", FOLLOWS, "draft")
    assert "A refusal could not be noted: no room" in caplog.text
    assert registry.statuses() == {SERVES: "production", FOLLOWS: "staging"}
