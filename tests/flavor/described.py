"""A model of any size in a store, of which a few tensors are there.

Index, headers and manifests are those of the whole model, cut as a store cuts its files. The chunks of the tensors that
are there were really put; those of all others lie in packs that nobody wrote, so whoever asks for one of them fails.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

from shardflow.flavor.header import made_header
from shardflow.flavor.index import INDEX_FILE, made_index
from shardflow.flavor.plans import Plan, Shard
from shardflow.flavor.recipe import RECIPE_FILE, Recipe, StoredFile, encode_recipe
from shardflow.flavor.shards import METADATA
from shardflow.layout import ReadAt, inspect
from shardflow.store import cutting
from shardflow.store.manifest import ChunkTable, Manifest, encode_manifest
from shardflow.store.pack import HEAD_BYTES
from shardflow.store.paths import key_of
from shardflow.store.store import Store

_HEADER = ("", 0)


class _Row(NamedTuple):
    """A chunk as a manifest tells of it."""

    chunk: bytes
    pack: bytes
    offset: int
    stored: int
    size: int
    codec: int


Piece = tuple[str, int]
"""A chunk by the tensor that it begins with, and where in that it begins."""


def describe(store: Store, path: str, model: Plan, there: Mapping[str, torch.Tensor], scratch: Path) -> None:
    """Put the description of a model into a store, and a few of its tensors."""
    save_file(dict(there), scratch / "there.safetensors", metadata=METADATA)
    store.put(scratch / "there.safetensors", "there")
    data = (scratch / "there.safetensors").read_bytes()
    pieces = _pieces(store, lambda offset, length: data[offset : offset + length], len(data))
    found = dict(zip((piece for piece, _ in pieces), _rows(store.manifest("there")), strict=True))
    files = [_describe(store, f"{path}/{shard.file}", shard, found) for shard in model.shards]
    store.put(BytesIO(encode_recipe(Recipe(1, model.method, tuple(files), {}))), f"{path}/{RECIPE_FILE}")
    store.put(BytesIO(made_index(model)), f"{path}/{INDEX_FILE}")


def _describe(store: Store, path: str, shard: Shard, found: Mapping[Piece, _Row]) -> StoredFile:
    header = made_header(shard.tensors, METADATA)
    store.put(BytesIO(header), f"headers/{shard.file}")
    (first,) = _rows(store.manifest(f"headers/{shard.file}"))
    size = len(header) + shard.size
    pieces = _pieces(store, lambda offset, length: header[offset : offset + length], size)
    rows = [first if piece == _HEADER else found.get(piece) or _nowhere(length) for piece, length in pieces]
    digest = random.randbytes(32)
    manifest = Manifest(size, digest, table=_table(rows), sequence=np.arange(len(rows), dtype=np.uint32))
    store.transport.write(key_of(path), encode_manifest(manifest))
    return StoredFile(shard.file, size, digest.hex())


def _pieces(store: Store, read_at: ReadAt, size: int) -> list[tuple[Piece, int]]:
    """How a store cuts a file, and how long each piece is."""
    layout, settings = inspect(read_at, size), store.config.settings
    starts = {segment.offset: segment.name for segment in layout.segments}
    made: list[tuple[Piece, int]] = []
    place, name, begin = 0, "", 0
    for run in cutting.plan(layout, settings.chunk_bytes, settings.cutting.maximum):
        if place in starts:
            name, begin = starts[place], place
        made.append(((name, place - begin), run.length))
        place += run.length
    return made


def _rows(manifest: Manifest) -> Iterator[_Row]:
    table = manifest.table
    columns = (table.offset, table.stored, table.size, table.codec)
    for row in manifest.sequence:
        yield _Row(table.id(row), table.packs[table.pack[row]], *(int(column[row]) for column in columns))


def _nowhere(length: int) -> _Row:
    return _Row(random.randbytes(32), random.randbytes(32), HEAD_BYTES, int(0.7 * length), length, 0)


def _table(rows: list[_Row]) -> ChunkTable:
    packs = list(dict.fromkeys(row.pack for row in rows))
    number = {pack: place for place, pack in enumerate(packs)}
    return ChunkTable(
        tuple(packs),
        np.frombuffer(b"".join(row.chunk for row in rows), np.uint8).reshape(-1, 32),
        np.array([number[row.pack] for row in rows], np.uint32),
        np.array([row.offset for row in rows], np.uint32),
        np.array([row.stored for row in rows], np.uint32),
        np.array([row.size for row in rows], np.uint32),
        np.array([row.codec for row in rows], np.uint8),
        np.zeros(len(rows), np.uint8),
        np.zeros(0, np.uint32),
    )
