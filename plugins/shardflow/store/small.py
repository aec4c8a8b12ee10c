"""Small files, which live in their manifests: one object each is all that has to be written."""

from __future__ import annotations

from io import RawIOBase

from blake3 import blake3

from shardflow.store.config import StoreConfig
from shardflow.store.manifest import Manifest, encode_manifest
from shardflow.store.noted import Noted, sha256_wanted
from shardflow.store.paths import key_of
from shardflow.store.reading import read_all
from shardflow.store.sources import Source
from shardflow.transport import Transport


def inline_manifest(source: Source, file: RawIOBase, noted: Noted, most: int) -> Manifest:
    """The manifest that a file of up to `most` bytes lives in."""
    data = read_all(file, (most if source.size is None else source.size) + 1)
    source.check_unchanged(file, len(data))
    noted.update(data)
    return Manifest(len(data), blake3(data).digest(), md5=noted.md5, sha256=noted.sha256, inline=data)


def is_small(config: StoreConfig, source: Source) -> bool:
    """Whether a source is so small that it lives in its manifest."""
    return source.size is not None and source.size <= config.settings.inline_bytes


def put_small(transport: Transport, config: StoreConfig, source: Source) -> None:
    """Store a small file under its path, whatever is there: without the pool and the packs that others need."""
    config.check("write", str(transport.url))
    with source.open() as file:
        noted = Noted(md5=False, sha256=sha256_wanted())
        manifest = inline_manifest(source, file, noted, config.settings.inline_bytes)
    transport.write(key_of(source.path), encode_manifest(manifest))
