"""A migration that was cut short, or that others are in the way of: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from faults.crashing import Crash, Fate, mortal
from flavor.outside import checkpoints, fetched, tree
from services.warmed import finish, program
from shardflow import flavor
from shardflow.flavor import migrating, owners
from shardflow.flavor.moving import copying
from shardflow.flavor.moving.claims import WorkUnderWay
from shardflow.store.config import Settings
from shardflow.store.progress import Progress
from shardflow.store.sources import Source
from shardflow.store.store import Store
from shardflow.transport import NoSpace


def test_bytes_that_come_out_differently_are_told(
    large: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoints(tmp_path / "checkpoints", (1, 2))
    honest = copying.digest_of

    def lying(opened: object, cancel: object) -> str:
        found = honest(opened, cancel)  # type: ignore[arg-type]
        return "0" * 64 if "checkpoint-1/" in str(getattr(opened, "name", "")) else found

    monkeypatch.setattr(copying, "digest_of", lying)
    done = flavor.migrate(f"{large.url}/run", source=str(source))
    assert [version.state for version in done.versions] == ["failed", "moved"]
    assert "the store gives back others" in done.versions[0].problem
    monkeypatch.undo()
    assert [v.state for v in flavor.migrate(f"{large.url}/run", source=str(source)).versions] == ["moved", "was there"]


def test_a_migration_that_dies_before_any_change_is_finished_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoints(tmp_path / "checkpoints", (1, 2))
    store = Store.init(f"shardflow://memory/{tmp_path.name}", Settings(pack_bytes=1 << 20, chunk_bytes=64 << 10))
    deaths = 0
    for dies_at in range(1, 100, 2):
        fate = Fate(dies_at=dies_at)
        monkeypatch.setattr(migrating.Store, "find", lambda *_, fate=fate: (mortal(store, fate), f"try-{fate.dies_at}"))
        try:
            flavor.migrate("shardflow://file/somewhere", source=str(source))
        except Crash:
            deaths += 1
        monkeypatch.undo()
        done = flavor.migrate(f"{store.url}/try-{dies_at}", source=str(source))
        assert done.failed == 0
        assert fetched(store, f"try-{dies_at}", tmp_path / f"back-{dies_at}") == tree(source)
        if fate.changes < dies_at:
            break
    assert deaths >= 5


MIGRATE = """
import sys
from shardflow.flavor.moving import copying
from shardflow import flavor
copying.BATCH_BYTES = 1 << 20
flavor.migrate(sys.argv[1], source=sys.argv[2])
"""


def test_a_killed_migration_goes_on_where_it_was(tmp_path: Path) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), Settings(pack_bytes=1 << 20, chunk_bytes=1 << 20))
    for step in range(3):
        (tmp_path / "in" / f"step-{step}").mkdir(parents=True)
        for number in range(4):
            (tmp_path / "in" / f"step-{step}" / f"part-{number}").write_bytes(os.urandom(1 << 20))
    first = program(MIGRATE, str(store.url), str(tmp_path / "in"))
    while first.is_alive() and "step-1" not in {entry.path for entry in store.ls()}:
        time.sleep(0.005)
    first.kill()
    first.join()
    packs = {info.key: info.modified for info in store.transport.list("packs/")}
    assert "step-2" not in {entry.path for entry in store.ls()}
    finished = {entry.path: entry.created for entry in store.ls("step-0", details=True)}
    finish(program(MIGRATE, str(store.url), str(tmp_path / "in")))
    now = {info.key: info.modified for info in store.transport.list("packs/")}
    assert {key: now[key] for key in packs} == packs
    assert sum(info.size for info in store.transport.list("packs/")) < 12.1 * (1 << 20)
    assert len(finished) == 4
    assert {entry.path: entry.created for entry in store.ls("step-0", details=True)} == finished
    store.rm(".migrated", recursive=True)
    assert fetched(store, "", tmp_path / "back") == tree(tmp_path / "in")


def test_two_migrations_to_one_place_are_not_made_at_once(large: Store, tmp_path: Path) -> None:
    source = checkpoints(tmp_path / "checkpoints")
    (tmp_path / "note").write_text('{"work":"migration","host":"elsewhere","process":1,"token":"a","started":1.0}')
    large.put(tmp_path / "note", ".migrated/run/under-way.json")
    with pytest.raises(WorkUnderWay, match="process 1 of elsewhere"):
        flavor.migrate(f"{large.url}/run", source=str(source))
    assert flavor.migrate(f"{large.url}/run", source=str(source), take_over=True).failed == 0


def test_a_full_disk_ends_the_run_and_any_machine_may_begin_again(
    large: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoints(tmp_path / "checkpoints", (1, 2))
    put = copying.put_sources

    def full(store: Store, sources: Sequence[Source], path: str, **how: Any) -> Progress:
        if path.endswith("-2"):
            raise NoSpace("no room is left")
        return put(store, sources, path, **how)

    with monkeypatch.context() as broken:
        broken.setattr(copying, "put_sources", full)
        with pytest.raises(NoSpace):
            flavor.migrate(f"{large.url}/run", source=str(source))
    monkeypatch.setattr(owners.platform, "node", lambda: "another")
    done = flavor.migrate(f"{large.url}/run", source=str(source))
    assert [version.state for version in done.versions] == ["was there", "moved"]


def test_other_files_at_the_target_are_not_mixed_with_what_comes(large: Store, tmp_path: Path) -> None:
    source = checkpoints(tmp_path / "checkpoints")
    (tmp_path / "mine").write_text("mine")
    large.put(tmp_path / "mine", "run/checkpoint-10/mine")
    done = flavor.migrate(f"{large.url}/run", source=str(source))
    assert [version.state for version in done.versions] == ["moved", "failed", "moved"]
    assert "checkpoint-10/mine is in the store" in done.versions[1].problem
