"""A file of a few chunks, and its partial files: what the tests of placing work on."""

from __future__ import annotations

from pathlib import Path

from shardflow.store.manifest import Manifest
from shardflow.store.placing import PartialFile
from store.samples import in_memory, named, noise, stored

CHUNKS = [noise(500 + 10 * seed, seed) for seed in range(4)]
CONTENT = b"".join(CHUNKS)


def manifest_of(sequence: list[bytes]) -> Manifest:
    return stored(in_memory(), sequence)


def by_name(sequence: list[bytes]) -> dict[bytes, bytes]:
    return {named(data): data for data in sequence}


def write_row(partial: PartialFile, row: int, chunks: dict[bytes, bytes]) -> None:
    partial.write(row, memoryview(chunks[partial.manifest.table.id(row)]))


def leftovers(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)
