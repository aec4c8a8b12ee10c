"""What a store tells about the files and directories in it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from shardflow.codec import CodecId
from shardflow.store.manifest import Manifest


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a listing; sizes are known when the listing was asked for details."""

    path: str
    kind: Literal["file", "directory"]
    size: int | None = None
    created: float | None = None
    digest: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Stat:
    """A stored file, or the sum of everything below a directory."""

    path: str
    kind: Literal["file", "directory"]
    files: int
    size: int
    chunks: int
    packs: int
    stored: int  # bytes of its chunks in packs, chunks it shares with other files included
    codecs: dict[str, int] = field(default_factory=dict)  # chunks by encoding
    layout: str | None = None
    digest: str | None = None
    created: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}


def entry_of(path: str, manifest: Manifest) -> Entry:
    return Entry(path, manifest.kind, manifest.size, manifest.created, manifest.digest.hex())


def stat_of(path: str, manifest: Manifest) -> Stat:
    """One file's figures."""
    table = manifest.table
    inline = len(manifest.inline) if manifest.inline is not None else 0
    return Stat(
        path=path,
        kind=manifest.kind,
        files=int(manifest.kind == "file"),
        size=manifest.size,
        chunks=len(table),
        packs=len(table.packs),
        stored=int(table.stored.sum(dtype=np.int64)) + inline,
        codecs=_by_codec(table.codec),
        layout=manifest.layout,
        digest=manifest.digest.hex(),
        created=manifest.created,
    )


def sum_of(path: str, stats: list[Stat]) -> Stat:
    """A directory's figures, from those of the files below it."""
    codecs: dict[str, int] = {}
    for stat in stats:
        for codec, count in stat.codecs.items():
            codecs[codec] = codecs.get(codec, 0) + count
    return Stat(
        path=path,
        kind="directory",
        files=sum(stat.files for stat in stats),
        size=sum(stat.size for stat in stats),
        chunks=sum(stat.chunks for stat in stats),
        packs=sum(stat.packs for stat in stats),
        stored=sum(stat.stored for stat in stats),
        codecs=codecs,
    )


def _by_codec(column: np.ndarray[Any, np.dtype[np.uint8]]) -> dict[str, int]:
    known = {int(codec): codec.name.lower() for codec in CodecId}
    codes, counts = np.unique(column, return_counts=True)
    return {known.get(int(code), f"codec-{code}"): int(count) for code, count in zip(codes, counts, strict=True)}
