"""Adds the SHA-256 of files to their manifests, for files whose writer did not note it: each is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

from blake3 import blake3

from shardflow.store.care.marking import read_again
from shardflow.store.manifest import encode_manifest
from shardflow.store.paths import key_of
from shardflow.store.reader import Reader
from shardflow.store.store import Store
from shardflow.transport import Changed, ObjectMissing

READ_BYTES = 8 << 20
ATTEMPTS = 5


def note_sha256(store: Store, path: str, reading: Callable[[int], None] = lambda _: None) -> bytes:
    """Read a stored file, and keep its SHA-256 in its manifest; should it be replaced meanwhile, that one counts."""
    with store.open(path) as file:
        _, sha256 = digests(file, reading)
        of = file.digest
    _keep(store, path, of, sha256)
    return sha256


def digests(file: Reader, reading: Callable[[int], None]) -> tuple[bytes, bytes]:
    """BLAKE3 and SHA-256 of a file, read from end to end; `reading` is told how many bytes were read."""
    fast, slow = blake3(max_threads=blake3.AUTO), hashlib.sha256()
    buffer = memoryview(bytearray(READ_BYTES))
    while count := file.readinto(buffer):
        fast.update(buffer[:count])
        slow.update(buffer[:count])
        reading(count)
    return fast.digest(), slow.digest()


def _keep(store: Store, path: str, of: str, sha256: bytes) -> None:
    key = key_of(path)
    for _ in range(ATTEMPTS):
        stored = read_again(store.transport, key)
        if stored is None or stored.manifest.digest.hex() != of or stored.etag is None:
            return  # it is another file by now, or the place cannot replace safely: only the note is lost
        try:
            store.transport.write(key, encode_manifest(replace(stored.manifest, sha256=sha256)), if_match=stored.etag)
        except (Changed, ObjectMissing):
            continue
        return
