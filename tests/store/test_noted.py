"""SHA-256 beside the store's own digests: noted while a file is stored, where somebody asks for it, or added later."""

from __future__ import annotations

import hashlib
import io
import random
from dataclasses import replace
from threading import Thread

import pytest

from shardflow.store.care.noting import note_sha256
from shardflow.store.errors import ManifestDamaged
from shardflow.store.manifest import decode_manifest, encode_manifest
from shardflow.store.noted import SHA256_VARIABLE, noting_sha256
from shardflow.store.store import Store

LARGE, TINY = random.Random(1).randbytes(300_000), b"hello"


def put(store: Store, content: bytes = LARGE, path: str = "f") -> bytes | None:
    store.put(io.BytesIO(content), path, deltas=False)
    return store.manifest(path).sha256


@pytest.mark.parametrize("content", [LARGE, TINY, b""], ids=["in chunks", "inline", "empty"])
def test_it_is_noted_in_a_block_that_asks_for_it(store: Store, content: bytes) -> None:
    assert put(store, content, "before") is None
    with noting_sha256():
        assert put(store, content, "within") == hashlib.sha256(content).digest()
    assert put(store, content, "after") is None


def test_it_is_noted_where_the_environment_asks_for_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SHA256_VARIABLE, "1")
    assert put(store, path="with") == hashlib.sha256(LARGE).digest()
    monkeypatch.setenv(SHA256_VARIABLE, "0")
    assert put(store, path="without") is None


def test_another_thread_does_not_note_it(store: Store) -> None:
    found: list[bytes | None] = []
    with noting_sha256():
        thread = Thread(target=lambda: found.append(put(store)))
        thread.start()
        thread.join()
    assert found == [None]


def test_what_was_not_noted_is_added_and_nothing_else_changes(store: Store) -> None:
    put(store)
    before, read = store.manifest("f"), list[int]()
    assert note_sha256(store, "f", read.append) == hashlib.sha256(LARGE).digest()
    after = store.manifest("f")
    assert after.sha256 == hashlib.sha256(LARGE).digest()
    assert (after.digest, after.created, after.size) == (before.digest, before.created, before.size)
    assert after.sequence.tobytes() == before.sequence.tobytes()
    assert sum(read) == len(LARGE)
    assert store.open("f").read() == LARGE


def test_a_file_that_is_replaced_meanwhile_does_not_get_the_digest_of_the_old_one(store: Store) -> None:
    put(store)
    replaced: list[bool] = []

    def replace_once(_: int) -> None:
        if not replaced:
            replaced.append(True)
            store.put(io.BytesIO(LARGE[::-1]), "f", deltas=False)

    assert note_sha256(store, "f", replace_once) == hashlib.sha256(LARGE).digest()
    assert store.manifest("f").sha256 is None
    assert store.open("f").read() == LARGE[::-1]


def test_a_digest_of_another_length_is_no_manifest(store: Store) -> None:
    put(store)
    damaged = replace(store.manifest("f"), sha256=b"short")
    with pytest.raises(ManifestDamaged, match="SHA-256 is malformed"):
        decode_manifest(encode_manifest(damaged), "f")
