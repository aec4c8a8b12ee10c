"""Finds the stored model that another one shares most with, when nobody said which one it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from shardflow.errors import ShardflowError
from shardflow.store import hints
from shardflow.store.manifest import Manifest
from shardflow.store.store import Store

CANDIDATES = 4
LEAST_SAVED = 0.5  # of a model's bytes: against an unrelated one a delta may save a little, too


def most_alike(store: Store, path: str, names: Sequence[str]) -> str | None:
    """The directory of the model that spared the files in a directory most bytes, if it spared them many.

    Either a chunk is the same, or it is coded against one of the other's. Among equals, the newest.
    """
    manifest = max((store.manifest(f"{path}/{name}" if path else name) for name in names), key=lambda one: one.size)
    found = [similar.path for similar in hints.look_up(store.transport, manifest.features)]
    others = [other for other in found if _directory(other) != path][:CANDIDATES]
    saved: dict[tuple[int, float], str] = {}
    for other in others:
        try:
            theirs = store.manifest(other)
        except ShardflowError:
            continue  # hints may be of what was removed
        saved[_saved(manifest, theirs), theirs.created] = other
    most = max(saved, default=None)
    return _directory(saved[most]) if most is not None and most[0] >= LEAST_SAVED * manifest.size else None


def _saved(manifest: Manifest, other: Manifest) -> int:
    table = manifest.table
    theirs = {other.table.id(row) for row in range(len(other.table))}
    known = [table.id(row) in theirs for row in range(len(table))]
    saved = 0
    for row in set(manifest.sequence.tolist()):
        if known[row]:
            saved += int(table.size[row])
        elif any(known[base] for base in table.bases(row)):
            saved += max(0, int(table.size[row]) - int(table.stored[row]))
    return saved


def _directory(path: str) -> str:
    return path.rpartition("/")[0]
