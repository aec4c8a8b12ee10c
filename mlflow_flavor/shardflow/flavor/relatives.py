"""Finds the stored model that another one shares most with, when nobody said which one it was made from."""

from __future__ import annotations

from collections.abc import Sequence

from shardflow.errors import ShardflowError
from shardflow.store.manifest import Manifest
from shardflow.store.store import Store

LEAST_SAVED = 0.5  # of a model's bytes: against an unrelated one a delta may save a little, too


def most_alike(store: Store, path: str, looked_at: Sequence[str]) -> str | None:
    """The directory of the model that spared a file most bytes when it was put, if it spared it many.

    `looked_at` are the files that it was coded against: the hints to them may be gone, the file's own took their
    place. Either a chunk is the same, or it is coded against one of the other's. Among equals, the newest.
    """
    manifest = store.manifest(path)
    saved: dict[tuple[int, float], str] = {}
    for other in looked_at:
        if _directory(other) == _directory(path):
            continue  # an earlier attempt of the same model
        try:
            theirs = store.manifest(other)
        except ShardflowError:
            continue  # it may have been removed since
        saved[_saved(manifest, theirs), theirs.created] = other
    most = max(saved, default=None)
    return _directory(saved[most]) if most is not None and most[0] >= LEAST_SAVED * manifest.size else None


def _saved(manifest: Manifest, other: Manifest) -> int:
    table = manifest.table
    theirs = set(other.table.ids())
    known = [name in theirs for name in table.ids()]
    saved = 0
    for row in set(manifest.sequence.tolist()):
        if known[row]:
            saved += int(table.size[row])
        elif any(known[base] for base in table.bases(row)):
            saved += max(0, int(table.size[row]) - int(table.stored[row]))
    return saved


def _directory(path: str) -> str:
    return path.rpartition("/")[0]
