"""A small file put by itself is what a put of it makes: the same manifest, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from shardflow.store.errors import FormatUnknown, SourceChanged
from shardflow.store.noted import noting_sha256
from shardflow.store.paths import key_of
from shardflow.store.small import is_small, put_over, put_small
from shardflow.store.sources import StreamSource, file_source
from shardflow.store.store import Store
from shardflow.transport import AlreadyThere, Changed, ObjectMissing


@pytest.mark.parametrize("size", [0, 1, 1024])
def test_it_is_stored_as_a_put_stores_it(store: Store, tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)
    source = file_source(tmp_path / "file", "alone")
    assert is_small(store.config, source)
    assert put_small(store.transport, store.config, [source]) == [None]
    store.put(tmp_path / "file", "put")
    alone, put = store.manifest("alone"), store.manifest("put")
    assert store.open("alone").read() == b"x" * size
    assert (alone.size, alone.digest, alone.inline, alone.sha256) == (put.size, put.digest, put.inline, None)
    assert {info.key for info in store.transport.list()} == {"shardflow.json", "tree/alone", "tree/put"}


def test_what_is_larger_or_of_unknown_length_is_not_small(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1025))
    with (tmp_path / "file").open("rb") as stream:
        assert not is_small(store.config, file_source(tmp_path / "file", "x"))
        assert not is_small(store.config, StreamSource.begun("x", stream))


def test_a_file_that_changes_meanwhile_is_not_stored(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"before")
    source = file_source(tmp_path / "file", "x")
    (tmp_path / "file").write_bytes(b"and after")
    (failure,) = put_small(store.transport, store.config, [source])
    assert isinstance(failure, SourceChanged)
    assert list(store.ls()) == []


def test_its_sha256_is_noted_where_that_was_asked_for(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with noting_sha256():
        put_small(store.transport, store.config, [file_source(tmp_path / "file", "x")])
    assert store.manifest("x").sha256 == hashlib.sha256(b"content").digest()


def test_a_store_that_asks_for_more_than_this_version_can_is_not_written(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(operation: str, place: str) -> None:
        raise FormatUnknown(f"{place} wants what is not known to {operation}")

    (tmp_path / "file").write_bytes(b"content")
    monkeypatch.setattr(type(store.config), "check", lambda _, operation, place: refuse(operation, place))
    with pytest.raises(FormatUnknown, match="to write"):
        put_small(store.transport, store.config, [file_source(tmp_path / "file", "x")])
    assert [info.key for info in store.transport.list("tree/")] == []


def test_it_is_put_over_what_was_seen_and_over_nothing_else(store: Store) -> None:
    put_over(store.transport, "note", b"one", None)
    with pytest.raises(AlreadyThere):
        put_over(store.transport, "note", b"two", None)
    seen = store.transport.head(key_of("note")).etag
    put_over(store.transport, "note", b"two", seen)
    with pytest.raises(Changed):
        put_over(store.transport, "note", b"three", seen)
    assert store.open("note").read() == b"two"
    seen = store.transport.head(key_of("note")).etag
    store.rm("note")
    with pytest.raises((Changed, ObjectMissing)):
        put_over(store.transport, "note", b"four", seen)
