"""What whoever may write to a store can do to a file in it: put other data below the digests of the old."""

from __future__ import annotations

import io
import random
from dataclasses import replace

from shardflow.store.manifest import encode_manifest
from shardflow.store.paths import key_of
from shardflow.store.store import Store


def forge(location: str, name: str) -> None:
    """Another content for a file of a model; everything that its manifest says of the whole file stays."""
    store, path = Store.find(location)
    before = store.manifest(f"{path}/{name}")
    store.put(io.BytesIO(random.Random(7).randbytes(before.size)), f"{path}/{name}.evil")
    evil = store.manifest(f"{path}/{name}.evil")
    forged = replace(evil, digest=before.digest, sha256=before.sha256)
    store.transport.write(key_of(f"{path}/{name}"), encode_manifest(forged))
    store.rm(f"{path}/{name}.evil")
