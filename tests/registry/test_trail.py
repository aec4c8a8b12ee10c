"""The trail: whatever is done to its rows behind the registry's back is found."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from registry.opened import Registry, opened
from shardflow.errors import ShardflowError
from shardflow.registry import asking
from shardflow.registry.audit import Entry, Event, entries, head_of, note, whole_trail
from shardflow.registry.terms import Actor, Status
from shardflow.registry.trail import Chain, Head, Standings, read_head, verified

Tampering = Callable[[Connection], object]


def run(statement: str) -> Tampering:
    return lambda connection: connection.execute(text(statement))


def swap(connection: Connection) -> None:
    for old, new in ((4, 999), (5, 4), (999, 5)):
        connection.execute(text(f"UPDATE shardflow_audit SET seq = {new} WHERE seq = {old}"))


COLUMNS = "seq, at, actor, verified, action, model, version, before, after, outcome, reason, evidence, previous, hash"
TAMPERINGS: dict[str, tuple[Tampering, str]] = {
    "an edited actor": (run("UPDATE shardflow_audit SET actor = 'eve' WHERE seq = 3"), "row 3: was edited"),
    "an edited outcome": (run("UPDATE shardflow_audit SET outcome = 'done' WHERE seq = 6"), "row 6: was edited"),
    "an edited time": (run("UPDATE shardflow_audit SET at = at + 1 WHERE seq = 1"), "row 1: was edited"),
    "a row that is now verified": (
        run("UPDATE shardflow_audit SET verified = true WHERE seq = 3"),
        "row 3: was edited",
    ),
    "a removed row": (run("DELETE FROM shardflow_audit WHERE seq = 3"), "row 3: rows were removed before row 4"),
    "several removed rows": (run("DELETE FROM shardflow_audit WHERE seq IN (2, 3, 4)"), "missing: 2 to 4"),
    "a removed first row": (run("DELETE FROM shardflow_audit WHERE seq = 1"), "row 1: rows were removed before row 2"),
    "a removed last row": (run("DELETE FROM shardflow_audit WHERE seq = 6"), "the last rows were removed"),
    "two rows that changed places": (swap, "does not follow the row before it"),
    "a row that was added": (
        run(
            f"INSERT INTO shardflow_audit ({COLUMNS}) SELECT 7, at, actor, verified, action, model, version, before, "
            "after, outcome, reason, evidence, hash, hash FROM shardflow_audit WHERE seq = 6"
        ),
        "row 7: was edited",
    ),
    "an emptied trail": (run("DELETE FROM shardflow_audit"), "the last rows were removed"),
}


@pytest.fixture
def lived(any_registry: Registry) -> Registry:
    """A registry in which six things happened, the last of them refused."""
    any_registry.register(versions=2)
    any_registry.promote("llama", 1, "staging")
    any_registry.promote("llama", 1, "production")
    with pytest.raises(Exception, match="Move it to staging first"):
        any_registry.promote("llama", 2, "production")
    assert len(any_registry.trail()) == 6
    return any_registry


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_trail_that_was_tampered_with_is_found_out_and_the_row_is_named(lived: Registry, name: str) -> None:
    tampering, finding = TAMPERINGS[name]
    with lived.store.engine.begin() as connection:
        without_triggers(connection)
        tampering(connection)
    assert finding in "; ".join(str(flaw) for flaw in lived.verified().flaws)


def without_triggers(connection: Connection) -> None:
    """As somebody who owns the database could do it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("ALTER TABLE shardflow_audit DISABLE TRIGGER ALL"))
        return
    for name in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
        connection.execute(text(f"DROP TRIGGER {name}"))


@pytest.mark.parametrize("statement", ["UPDATE shardflow_audit SET actor = 'eve'", "DELETE FROM shardflow_audit"])
def test_the_database_itself_refuses_to_change_rows(lived: Registry, statement: str) -> None:
    with lived.store.engine.connect() as connection, pytest.raises(DBAPIError, match="never changed or removed"):
        connection.execute(text(statement))
    assert lived.verified().flaws == ()


@pytest.mark.parametrize(
    ("put", "key"), [("REPLACE", "6"), ("INSERT OR REPLACE", "'6'"), ("INSERT OR IGNORE", "6"), ("REPLACE", None)]
)
def test_in_sqlite_a_row_does_not_take_the_place_of_another(registry: Registry, put: str, key: str | None) -> None:
    registry.register(versions=5)
    columns = COLUMNS if key else f"rowid, {COLUMNS}"
    values = f"{key or '6, 99'}, at, 'eve', verified, action, model, version, before, after, outcome, reason, evidence"
    statement = f"{put} INTO shardflow_audit ({columns}) SELECT {values}, previous, hash FROM shardflow_audit LIMIT 1"
    with registry.store.engine.connect() as connection, pytest.raises(DBAPIError, match="never changed or removed"):
        connection.execute(text(statement))
    assert registry.verified().flaws == ()


def test_a_database_from_before_a_trigger_gets_it_when_it_is_opened(registry: Registry) -> None:
    registry.register()
    with registry.store.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER shardflow_audit_INSERT"))
    with opened(registry.uri) as again, again.store.engine.connect() as connection:
        with pytest.raises(DBAPIError, match="never changed or removed"):
            connection.execute(text("REPLACE INTO shardflow_audit SELECT * FROM shardflow_audit"))
        assert again.verified() == registry.verified()


def test_a_forged_trail_that_fits_together_is_found_by_a_head_that_was_noted_elsewhere(lived: Registry) -> None:
    with lived.store.engine.connect() as connection:
        noted = head_of(connection)
        rows = list(whole_trail(connection))
    forged, head = rechained([row for row in rows if row.seq != 3])
    assert verified(forged, head).flaws == ()
    (flaw,) = verified(forged, head, since=noted).flaws
    assert str(flaw) == "row 6: is gone or another than when it was noted"
    assert verified(rows, noted, since=Head(3, rows[2].hash)).flaws == ()


def rechained(rows: list[Entry]) -> tuple[list[Entry], Head]:
    """What a forger with the database's password could make of a trail."""
    last, done = Head(0, ""), []
    for row in rows:
        words = {name: getattr(row, name) for name in Entry.__slots__}
        open_row = Entry(**{**words, "seq": last.seq + 1, "previous": last.hash, "hash": ""})
        closed = Entry(**{**words, "seq": last.seq + 1, "previous": last.hash, "hash": open_row.computed()})
        done.append(closed)
        last = Head(closed.seq, closed.hash)
    return done, last


def test_the_hash_of_a_row_is_that_of_its_words_as_documented() -> None:
    entry = Entry(
        1, "", 1_700_000_000_123, "ada", True, "move", "ll\u00e4ma", 3, "staging", None, "done", None, '{"a": 1}'
    )
    words = '[1,"",1700000000123,"ada",true,"move","ll\u00e4ma",3,"staging",null,"done",null,"{\\"a\\": 1}"]'
    assert entry.computed() == blake3(words.encode()).hexdigest()


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_two_different_rows_have_the_same_words(actor: str, reason: str) -> None:
    one = Entry(1, "", 1, actor.replace("\ud800", ""), False, "move", "m", 1, None, None, "done", reason, None)
    other = Entry(1, "", 1, actor + reason, False, "move", "m", 1, None, None, "done", "", None)
    assert (one.computed() == other.computed()) == (one == other)


def test_history_of_a_version_includes_what_happened_to_its_model(lived: Registry) -> None:
    lived.store.update_registered_model("llama", "words")
    with lived.store.engine.connect() as connection:
        of_second = [row.action for row in entries(connection, "llama", 2)]
    assert of_second == ["create", "create", "move", "describe"]


def test_a_long_trail_is_read_in_pages_and_in_order(registry: Registry) -> None:
    registry.register(versions=5)
    with registry.store.engine.connect() as connection:
        pages = [entries(connection, after=after, limit=2) for after in (0, 2, 4, 6)]
    assert [[row.seq for row in page] for page in pages] == [[1, 2], [3, 4], [5, 6], []]


@pytest.mark.parametrize("wrong", ["", "6", "x:y", "6:abc"])
def test_a_noted_row_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ShardflowError, match="is not a row of the trail"):
        read_head(wrong)


def test_a_trail_of_any_length_is_checked_in_the_memory_of_a_few_pages(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PAGE", 200)
    peaks = []
    for rows in (800, 6400):
        lengthen(registry, rows)
        client = MlflowClient(registry.uri, f"shardflow-{registry.uri}")
        peaks.append(peak_of(lambda client=client, rows=rows: checked(client, rows)))
    assert peaks[1] < 1.5 * peaks[0]


def checked(client: MlflowClient, rows: int) -> None:
    chain, standings = Chain(), Standings()
    found = chain.ended(asking.follow_trail(client, chain.take, standings.take))
    assert (found.rows, found.flaws) == (rows, ())
    assert standings.all() == {("llama", 1): Status.STAGING}


def lengthen(registry: Registry, rows: int) -> None:
    """Let as much happen to one version as makes so many rows."""
    with registry.store.engine.begin() as connection:
        there = head_of(connection).seq
        moves = [
            Event("move", "llama", Actor("ada"), 1.0, 1, "testing", "staging", reason="words " * 20)
            for _ in range(rows - there)
        ]
        note(connection, *moves)


def peak_of(act: Callable[[], object]) -> int:
    act()  # what is kept for the life of the process comes first
    tracemalloc.start()
    act()
    try:
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_noted_end_that_lies_before_the_last_row_hides_no_row(registry: Registry) -> None:
    registry.register(versions=3)
    with registry.store.engine.begin() as connection:
        connection.execute(text("UPDATE shardflow_audit_head SET seq = 0, hash = ''"))
    chain = Chain()
    found = chain.ended(asking.follow_trail(MlflowClient(registry.uri, f"shardflow-{registry.uri}"), chain.take))
    assert found.rows == 4
    assert [str(flaw) for flaw in found.flaws] == [
        f"row 0: the trail's end is noted as 0:, and its last row is {found.head}"
    ]
