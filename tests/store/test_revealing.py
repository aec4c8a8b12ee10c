"""Manifests are written as soon as they may be, many together where that is quicker, and each failure is told."""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from blake3 import blake3

from shardflow.store import chunks as chunks_module
from shardflow.store.catalog import Catalog
from shardflow.store.errors import PathTaken
from shardflow.store.manifest import Manifest
from shardflow.store.revealing import Ready, Revealer
from shardflow.store.store import Store
from shardflow.transport import AccessDenied, NewObject, Transport
from store.samples import named

Make = Callable[..., Revealer]


@pytest.fixture
def made(store: Store) -> Make:
    """A revealer for the store, with nothing known of what is there."""

    def make(*, replace_files: bool = True, looked_at: list[str] | None = None) -> Revealer:
        def look_again(ready: Ready) -> None:
            if looked_at is not None:
                looked_at.append(ready.path)

        pool = ThreadPoolExecutor(4)
        return Revealer(store.transport, pool, None, look_again, replace_files=replace_files)

    return make


@pytest.fixture
def batches(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Keys of what was written at a time, at most eight."""
    found: list[list[str]] = []
    real = Transport.write_all

    def noted(self: Transport, objects: list[NewObject]) -> Any:
        found.append([new.key for new in objects])
        return real(self, objects)

    monkeypatch.setattr(Transport, "write_all", noted)
    monkeypatch.setattr(Transport, "together", 8)
    return found


def ready(number: int, *, features: tuple[str, ...] = ()) -> Ready:
    content = b"content %d" % number
    manifest = Manifest(len(content), blake3(content).digest(), features=features, inline=content)
    return Ready(f"file/{number}", manifest, 0.0)


def of_two_packs(steps: int) -> Ready:
    """A file of one chunk of 100 bytes, which is decoded in so many steps."""
    catalog = Catalog()
    packs, bases = [catalog.number_of(named(b"%d" % number)) for number in range(2)], ()
    for step in range(steps):
        bases = (catalog.add(named(b"step %d" % step), packs[step % 2], 24 + 9 * step, 9, 100, 16, bases),)
    table, sequence = catalog.table(array("I", [catalog.add(named(b"last"), packs[1], 999, 9, 100, 16, bases)]))
    return Ready("weights", Manifest(100, named(b"last"), table=table, sequence=sequence), 0.0)


def test_what_gets_ready_while_others_are_written_is_written_together(
    store: Store, made: Make, batches: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = Event(), Event()
    real = Transport.write_all

    def held_up(self: Transport, objects: list[NewObject]) -> Any:
        begun.set()
        assert goes_on.wait(10)
        return real(self, objects)

    monkeypatch.setattr(Transport, "write_all", held_up)
    revealer = made()
    revealer.reveal(ready(0))
    assert begun.wait(10), "the first does not wait for others"
    for number in range(1, 13):
        revealer.reveal(ready(number))
    goes_on.set()
    revealer.drain()
    assert [len(batch) for batch in batches if batch] == [1, 8, 4]
    assert (revealer.written, revealer.unchanged) == (13, 0)
    assert sorted(path for path, _ in store.manifests()) == sorted(f"file/{number}" for number in range(13))


def test_every_file_is_looked_at_again_before_it_is_shown(made: Make, batches: list[list[str]]) -> None:
    looked_at: list[str] = []
    revealer = made(looked_at=looked_at)
    for number in range(20):
        revealer.reveal(ready(number))
    revealer.drain()
    assert looked_at == [f"file/{number}" for number in range(20)]


def test_what_is_there_already_is_not_written_and_gets_back_its_hints(
    store: Store, made: Make, batches: list[list[str]]
) -> None:
    files = [ready(number, features=(f"s-{number:02x}",)) for number in range(6)]
    for _ in range(2):
        revealer = made()
        for each in files:
            revealer.reveal(each)
        revealer.drain()
        assert len(list(store.transport.list("hints/"))) == 6
        for hint in list(store.transport.list("hints/s-03")):
            store.transport.delete(hint.key)
    assert (revealer.written, revealer.unchanged) == (0, 6)


def test_the_same_content_is_written_again_where_nobody_can_read_what_is_there(
    store: Store, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new table may need no other pack than the one that leads over too many chunks."""
    monkeypatch.setattr(chunks_module, "MOST_BASE_BYTES", 250)
    long, short = (of_two_packs(steps) for steps in (3, 1))
    for each, written in ((long, 1), (long, 1), (short, 1), (short, 0)):
        revealer = made()
        revealer.reveal(each)
        revealer.drain()
        assert revealer.written == written
    assert len(store.manifest("weights").table) == 2


def test_a_file_that_must_not_be_replaced_is_told_by_name(store: Store, made: Make, batches: list[list[str]]) -> None:
    store.put(io.BytesIO(b"another"), "file/3")
    revealer = made(replace_files=False)

    def reveal_all() -> None:
        for number in range(6):
            revealer.reveal(ready(number))
        revealer.drain()

    with pytest.raises(PathTaken, match="file/3 is stored already, with other content"):
        reveal_all()
    assert store.open("file/3").read() == b"another"


def test_a_failure_is_raised_by_whatever_comes_next_and_nothing_more_is_written(
    store: Store, made: Make, batches: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Transport, objects: list[NewObject]) -> list[AccessDenied]:
        return [AccessDenied(f"no {new.key}") for new in objects]

    monkeypatch.setattr(Transport, "write_all", refuse)
    revealer = made()
    revealer.reveal(ready(0))
    with pytest.raises(AccessDenied, match="no tree/file/0"):
        revealer.drain()
    with pytest.raises(AccessDenied):
        revealer.reveal(ready(1))
    revealer.close()
    assert list(store.manifests()) == []


def test_a_hint_that_cannot_be_written_fails_nothing(store: Store, made: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Transport.write

    def no_hints(self: Transport, key: str, *rest: Any, **options: Any) -> Any:
        if key.startswith("hints/"):
            raise AccessDenied("no hints")
        return real(self, key, *rest, **options)

    monkeypatch.setattr(Transport, "write", no_hints)
    revealer = made()
    revealer.reveal(ready(0, features=("s-00", "s-01")))
    revealer.drain()
    assert revealer.written == 1


def test_a_directory_of_many_small_files_is_put_whole(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(700):
        (source / f"{number}").write_bytes(b"%d" % number)
    assert store.put(source, "many").files_done == 700
    again = store.put(source, "many")
    assert again.files_unchanged == 700
    store.get("many", tmp_path / "back")
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()} == {
        f"{number}": b"%d" % number for number in range(700)
    }
