"""What a put asks of the store and of this machine: few requests, no more memory than there is, nobody else's notes."""

from __future__ import annotations

import io
import itertools
import os
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from faults.crashing import Crash, Fate, mortal
from shardflow.layout import ReadAt
from shardflow.store import hints
from shardflow.store.errors import PackMissing, SourceUnusable
from shardflow.store.gear import Gear
from shardflow.store.journal import Journal
from shardflow.store.manifest import decode_manifest
from shardflow.store.paths import key_of
from shardflow.store.putting import put_sources
from shardflow.store.reading import BLOCK_BYTES
from shardflow.store.store import Store
from shardflow.transport import ByteBudget, Cancellation, NewObject, Transport, TransportError
from store.conftest import SMALL
from store.samples import noise

_numbers = itertools.count()


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kind of request was made for each kind of object."""
    made: Counter[str] = Counter()
    lock = threading.Lock()

    def counting(verb: str) -> Any:
        real = getattr(Transport, verb)

        def count(self: Transport, key: str = "", *rest: Any, **options: Any) -> Any:
            with lock:
                made[f"{verb} {key.partition('/')[0]}"] += 1
            return real(self, key, *rest, **options)

        return count

    for verb in ("read", "head", "list", "list_names", "write"):
        monkeypatch.setattr(Transport, verb, counting(verb))
    write_all = Transport.write_all

    def counting_all(self: Transport, objects: Sequence[NewObject]) -> list[TransportError | None]:
        if self.together > 1 and len(objects) > 1:  # else each is one `write`
            with lock:
                made.update(f"write {new.key.partition('/')[0]}" for new in objects)
        return write_all(self, objects)

    monkeypatch.setattr(Transport, "write_all", counting_all)
    return made


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A hundred files, each too large for its manifest."""
    directory = tmp_path / "source"
    directory.mkdir()
    for number in range(100):
        (directory / f"{number}").write_bytes(noise(5_000, number))
    return directory


def test_a_new_directory_costs_one_object_a_file_and_few_requests_beside(
    store: Store, directory: Path, requests: Counter[str]
) -> None:
    store.put(directory, "m")
    packs = requests.pop("write packs")
    assert packs < 20
    assert requests.pop("write tree") == 100
    assert requests.pop("head packs") <= 2 * packs, "is it there already, is it there still"
    assert requests.pop("list trash") <= packs
    assert sum(requests.values()) < 10, requests


def test_putting_it_again_reads_each_manifest_and_asks_for_each_pack_once(
    store: Store, directory: Path, requests: Counter[str]
) -> None:
    store.put(directory, "m")
    packs = requests["write packs"]
    requests.clear()
    report = store.put(directory, "m")
    assert report.files_unchanged == 100
    assert requests.pop("read tree") == 200, "to learn from, and to compare with"
    assert requests.pop("head packs") <= 2 * packs
    assert requests.pop("list trash") <= packs
    assert sum(requests.values()) < 10, requests


def test_a_put_leaves_the_notes_of_another_to_it(store: Store, tmp_path: Path) -> None:
    """A large put was killed, and a small one runs before the large one is tried again."""
    (tmp_path / "large").write_bytes(noise(1_000_000))
    dying = mortal(store, Fate(dies_at=6))
    with pytest.raises(Crash):
        dying.put(tmp_path / "large", "large")
    for thread in threading.enumerate():
        if thread.name.startswith("shardflow-send"):
            thread.join(10)
    noted = dict(Journal(store.config.id).unfinished())
    assert noted

    store.put(io.BytesIO(noise(50_000, 1)), "small")

    assert dict(Journal(store.config.id).unfinished()) == noted
    assert store.put(tmp_path / "large", "large").bytes_reused >= 60_000 * len(noted)
    assert not dict(Journal(store.config.id).unfinished())


def test_a_put_may_read_from_a_reader_however_little_memory_there_is(store: Store) -> None:
    """The put holds all there is while it waits for the reader."""
    poor = Store(store.transport, store.config, ByteBudget(1))
    poor.put(io.BytesIO(noise(300_000)), "m")
    with poor.open("m") as file:
        poor.put(file, "copy")
    assert store.stat("copy").digest == store.stat("m").digest
    assert poor.budget.out == 0


class Watched(io.RawIOBase):
    """Zeros, and which threads read them."""

    def __init__(self, size: int) -> None:
        self._left = size
        self.readers: set[str] = set()

    def readinto(self, target: Any) -> int:
        self.readers.add(threading.current_thread().name)
        count = min(len(target), self._left)
        target[:count] = bytes(count)
        self._left -= count
        return count

    def read(self, size: int = -1) -> bytes:
        memory = bytearray(size)
        return bytes(memory[: self.readinto(memory)])


@dataclass(frozen=True)
class OfKnownSize:
    """A source that says how long it is."""

    opened: Watched
    size: int
    path: str = "m"
    name: str = "m"

    def open(self) -> io.RawIOBase:
        return self.opened

    def random_access(self, _: io.RawIOBase, /) -> ReadAt:
        return lambda _, length: bytes(length)

    def check_unchanged(self, _: io.RawIOBase, read: int, /) -> None:
        assert read == self.size


def test_a_large_source_is_read_and_cut_while_what_was_read_of_it_is_packed(store: Store) -> None:
    size = BLOCK_BYTES + 1
    opened = Watched(size)
    put_sources(store, [OfKnownSize(opened, size)], "")
    assert opened.readers == {"shardflow-cut_0"}
    assert store.stat("m").size == size


def test_beside_other_work_of_the_program_it_is_not(store: Store) -> None:
    opened = Watched(BLOCK_BYTES + 1)
    put_sources(store, [OfKnownSize(opened, BLOCK_BYTES + 1)], "", beside=True)
    assert opened.readers == {threading.current_thread().name}


def test_a_small_source_is_read_at_once(store: Store) -> None:
    opened = Watched(BLOCK_BYTES)
    put_sources(store, [OfKnownSize(opened, BLOCK_BYTES)], "")
    assert opened.readers == {threading.current_thread().name}


def test_a_stream_is_read_by_who_puts_it_as_it_may_have_nothing_to_give_for_ever(store: Store) -> None:
    """A thread that waits for a pipe would keep the program from ending, after Ctrl-C too."""
    opened = Watched(3 * BLOCK_BYTES)
    store.put(opened, "m")
    assert opened.readers == {threading.current_thread().name}


def test_many_puts_may_read_from_readers_at_once(store: Store) -> None:
    """Some of them wait for memory, and must not stand in the way of what the others read."""
    store.put(io.BytesIO(noise(300_000)), "m")
    shared = Store(store.transport, store.config, ByteBudget(100 << 20))

    def copy(number: int) -> None:
        with shared.open("m") as file:
            shared.put(file, f"copy-{number}")

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert len(list(store.ls(""))) == 7


def chunks(store: Store, path: str) -> list[tuple[bytes, int]]:
    """Names and sizes of what a file is made of."""
    manifest = decode_manifest(store.transport.read(key_of(path)), path)
    return [(manifest.table.id(row), int(manifest.table.size[row])) for row in manifest.sequence]


@pytest.fixture
def fresh() -> Store:
    """A store that knows nothing of earlier versions."""
    return Store.init(f"shardflow://memory/fresh-{next(_numbers)}", SMALL)


@pytest.mark.parametrize("path", ["same", "other"])
@pytest.mark.parametrize("is_stream", [False, True], ids=["file", "stream"])
def test_a_new_version_is_cut_as_where_there_is_no_earlier_one_and_little_of_it_scanned(
    store: Store, fresh: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, is_stream: bool
) -> None:
    earlier = noise(9 << 20)
    new = (
        earlier[: 5 << 20] + noise(3000, 1) + earlier[5 << 20 : 8 << 20] + noise(3000, 2) + earlier[(8 << 20) + 3000 :]
    )
    (tmp_path / "earlier").write_bytes(earlier)
    (tmp_path / "new").write_bytes(new)
    fresh.put(tmp_path / "new", "new")
    store.put(tmp_path / "earlier", "same")

    scanned = []
    cuts = Gear.cuts
    monkeypatch.setattr(
        Gear, "cuts", lambda gear, data, *a, **k: scanned.append(len(data)) or cuts(gear, data, *a, **k)
    )
    report = store.put(io.BytesIO(new) if is_stream else tmp_path / "new", path)

    assert chunks(store, path) == chunks(fresh, "new")
    assert store.open(path).read() == new
    assert report.bytes_reused > len(new) - 50_000
    for_hints = (1 if is_stream else 3) * hints.WINDOW_BYTES
    assert sum(scanned) < for_hints + (200 << 10)


def test_what_follows_a_file_that_was_one_chunk_is_cut_as_if_that_were_not_known(
    store: Store, fresh: Store, tmp_path: Path
) -> None:
    """Its end cut it, not its content."""
    largest = SMALL.cutting.maximum
    store.put(io.BytesIO(noise(largest)), "m")
    for each in (store, fresh):
        each.put(io.BytesIO(noise(largest) + noise(100_000, 1)), "m")
    assert chunks(store, "m") == chunks(fresh, "m")


def test_a_version_whose_packs_are_gone_is_followed_and_its_chunks_written_anew(store: Store, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(noise(300_000))
    store.put(tmp_path / "m", "m")
    for info in list(store.transport.list("packs/")):
        store.transport.delete(info.key)
    (tmp_path / "m").write_bytes(noise(300_000) + noise(70_000, 1))
    assert store.put(tmp_path / "m", "m").bytes_reused == 0
    assert store.open("m").read() == noise(300_000) + noise(70_000, 1)


def test_a_put_that_fails_gives_its_memory_back(store: Store) -> None:
    budget = ByteBudget(1 << 30)
    failing = Store(store.transport, store.config, budget)
    for source in (io.StringIO("text"), io.StringIO("more text")):
        with pytest.raises(SourceUnusable, match="the stream gives str, not bytes"):
            failing.put(source, "m")  # type: ignore[arg-type]
    assert budget.out == 0


def test_a_name_that_cannot_be_stored_stops_a_put_before_it_sends_anything(
    store: Store, directory: Path, requests: Counter[str]
) -> None:
    (directory / ("é" * 100)).write_bytes(b"the last one by name")
    with pytest.raises(Exception, match="use a shorter name"):
        store.put(directory, "m")
    assert not [request for request in requests if request.startswith("write")]


def test_files_whose_names_are_no_text_are_stored_and_found_again(store: Store, tmp_path: Path) -> None:
    name = os.fsdecode(b"weights-\xff.bin")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_bytes(noise(1_200_000))
    store.put(tmp_path / "source", "m")
    assert store.put(tmp_path / "source", "n").bytes_reused == 1_200_000
    store.get("n", tmp_path / "back")
    assert (tmp_path / "back" / name).read_bytes() == noise(1_200_000)


def test_packs_that_vanish_under_a_put_are_written_anew_also_when_it_can_be_cancelled(
    store: Store, tmp_path: Path
) -> None:
    """The first attempt fails and stops its threads; that must not stop the second."""
    (tmp_path / "model").write_bytes(noise(300_000))
    store.put(tmp_path / "model", "v1")
    vanishing: list[str] = []

    def collector(verb: str, key: str) -> None:
        if key.startswith("packs/") and not vanishing:
            vanishing.extend(info.key for info in store.transport.list("packs/"))
            for pack in vanishing:
                store.transport.delete(pack)

    (tmp_path / "changed").write_bytes(noise(300_000) + noise(70_000, 1))
    cancel = Cancellation()
    mortal(store, Fate(before=collector)).put(tmp_path / "changed", "v1", cancel=cancel)
    assert vanishing
    assert store.open("v1").read() == noise(300_000) + noise(70_000, 1)
    assert not cancel.cancelled


def test_a_failure_does_not_cancel_what_else_shares_the_token(store: Store, tmp_path: Path) -> None:
    cancel = Cancellation()
    with pytest.raises(SourceUnusable):
        store.put(io.StringIO("text"), "m", cancel=cancel)  # type: ignore[arg-type]
    store.put(io.BytesIO(noise(50_000)), "m")
    for info in list(store.transport.list("packs/")):
        store.transport.delete(info.key)
    with pytest.raises(PackMissing):
        store.get("m", tmp_path / "m", cancel=cancel)
    assert not cancel.cancelled
