"""Sources that the caller made are stored like files, and are all there or told to be unusable."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from typing_extensions import Buffer

from shardflow.layout import ReadAt
from shardflow.store.errors import PackMissing, PathMissing, SourceChanged
from shardflow.store.putting import put_sources
from shardflow.store.store import Store
from shardflow.store.writer import Writer
from store.samples import noise


@dataclass(frozen=True)
class Bytes:
    """Content that is in memory."""

    path: str
    content: bytes
    end: int | None = None  # where it turns out to end

    @property
    def name(self) -> str:
        return self.path

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> io.RawIOBase:
        return _Raw(self.content[: self.end])

    def random_access(self, _: io.RawIOBase, /) -> ReadAt:
        return lambda offset, length: self.content[offset : offset + length]

    def check_unchanged(self, _: io.RawIOBase, read: int, /) -> None:
        if read != self.size:
            raise SourceChanged(f"{self.path} is shorter than it was")


class _Raw(io.RawIOBase):
    def __init__(self, content: bytes) -> None:
        self._left = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        return self._left.readinto(target)


def test_sources_are_stored_below_their_paths(store: Store) -> None:
    contents = {f"model/shard-{number}": noise(100_000, number) for number in range(3)}
    done = put_sources(store, [Bytes(path, content) for path, content in contents.items()], "model")
    assert (done.files_done, done.files_total, done.bytes_done) == (3, 3, 300_000)
    assert {path: store.open(path).read() for path in contents} == contents


def test_what_the_store_has_is_not_sent_again(store: Store) -> None:
    source = Bytes("first", noise(2 << 20))
    put_sources(store, [source], "")
    again = put_sources(store, [Bytes("second", source.content)], "")
    assert again.bytes_reused == 2 << 20


def test_files_that_are_to_appear_together_do_so_after_all_has_arrived(store: Store) -> None:
    """Not while half of a checkpoint is still on its way, and the other half would be read with old files."""
    seen: list[tuple[int, set[str]]] = []

    def before_visible() -> None:
        packs = sum(info.size for info in store.transport.list("packs/"))
        seen.append((packs, {entry.path for entry in store.ls("", recursive=True)}))

    sources = [Bytes("new/a", noise(3 << 20, 1)), Bytes("new/b", noise(3 << 20, 2))]
    put_sources(store, sources, "new", before_visible=before_visible)
    ((packs, visible),) = seen
    assert packs > 6 << 20
    assert visible == set()
    assert store.open("new/b").read() == noise(3 << 20, 2)


def test_nothing_is_given_up_for_what_does_not_arrive(store: Store) -> None:
    given_up: list[bool] = []
    sources = [Bytes("new/a", noise(100_000)), Bytes("new/b", noise(100_000, 1), end=50_000)]
    with pytest.raises(SourceChanged):
        put_sources(store, sources, "new", before_visible=lambda: given_up.append(True))
    assert not given_up
    assert list(store.ls()) == []


def test_a_source_that_ends_early_is_not_stored(store: Store) -> None:
    with pytest.raises(SourceChanged):
        put_sources(store, [Bytes("model", noise(100_000), end=50_000)], "")
    assert not list(store.ls())


def test_a_base_that_is_not_there_is_told_before_anything_is_read(store: Store) -> None:
    with pytest.raises(PathMissing, match="older"):
        put_sources(store, [Bytes("model", noise(100_000))], "", base="older")


def test_what_was_collected_meanwhile_is_sent_a_second_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = [PackMissing("collected under it")]
    finish = Writer.finish

    def failing_once(self: Writer) -> None:
        finish(self)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(Writer, "finish", failing_once)
    done = put_sources(store, [Bytes("model", noise(100_000))], "")
    assert done.files_done == 1
    assert store.open("model").read() == noise(100_000)


def test_what_is_put_beside_other_work_leaves_half_of_the_cores_to_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []
    finish = Writer.finish

    def noting(self: Writer) -> None:
        threads.append(self._workers._max_workers)
        finish(self)

    monkeypatch.setattr(Writer, "finish", noting)
    for cores in (1, 2, 7):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        for beside in (False, True):
            put_sources(store, [Bytes("model", noise(100_000, cores))], "", beside=beside)
    assert threads == [1, 1, 2, 1, 7, 3]
