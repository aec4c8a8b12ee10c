"""Small files, which live in their manifests: one object each is all that has to be written."""

from __future__ import annotations

from collections.abc import Sequence
from io import RawIOBase

from blake3 import blake3

from shardflow.errors import ShardflowError
from shardflow.store.config import StoreConfig
from shardflow.store.manifest import Manifest, encode_manifest
from shardflow.store.noted import Noted, sha256_wanted
from shardflow.store.paths import key_of
from shardflow.store.reading import read_all
from shardflow.store.sources import Source
from shardflow.transport import NewObject, Transport


def inline_manifest(source: Source, file: RawIOBase, noted: Noted, most: int) -> Manifest:
    """The manifest that a file of up to `most` bytes lives in."""
    data = read_all(file, (most if source.size is None else source.size) + 1)
    source.check_unchanged(file, len(data))
    noted.update(data)
    return Manifest(len(data), blake3(data).digest(), md5=noted.md5, sha256=noted.sha256, inline=data)


def is_small(config: StoreConfig, source: Source) -> bool:
    """Whether a source is so small that it lives in its manifest."""
    return source.size is not None and source.size <= config.settings.inline_bytes


def put_small(transport: Transport, config: StoreConfig, sources: Sequence[Source]) -> list[ShardflowError | None]:
    """Store small files under their paths, whatever is there: without the pool and the packs that others need.

    Returns what each failed with, None where it is stored.
    """
    config.check("write", str(transport.url))
    failures: list[ShardflowError | None] = [None] * len(sources)
    objects: dict[int, NewObject] = {}
    for number, source in enumerate(sources):
        try:
            objects[number] = _object_of(source, config)
        except ShardflowError as error:
            failures[number] = error
    for number, failure in zip(objects, transport.write_all([*objects.values()]), strict=True):
        failures[number] = failure
    return failures


def put_over(transport: Transport, path: str, data: bytes, seen: str | None) -> None:
    """Make `data` the content of a path whose object had the ETag `seen` when it was looked at, or None was there.

    Raises AlreadyThere, Changed or ObjectMissing, and writes nothing, where another has come between.
    """
    manifest = encode_manifest(Manifest(len(data), blake3(data).digest(), inline=data))
    transport.write(key_of(path), manifest, if_match=seen, if_absent=seen is None)


def _object_of(source: Source, config: StoreConfig) -> NewObject:
    with source.open() as file:
        noted = Noted(md5=False, sha256=sha256_wanted())
        manifest = inline_manifest(source, file, noted, config.settings.inline_bytes)
    return NewObject(key_of(source.path), memoryview(encode_manifest(manifest)))
