"""What collections sweep up beside packs: hints that lead nowhere, and what killed programs left behind."""

from __future__ import annotations

import itertools

from blake3 import blake3
from typing_extensions import Buffer

from shardflow.store.care.progress import CareProgress
from shardflow.store.hints import HINTS, hint_objects
from shardflow.store.manifest import Manifest
from shardflow.store.parallel import in_parallel
from shardflow.transport import AccessDenied, Changed, ObjectInfo, ObjectMissing, ReadOnlyTarget, Transport

DAMAGED = "care/damaged/"
DAMAGED_KEPT_SECONDS = 30 * 24 * 3600.0
PROBES = ("care/clock-", "care/probe-")
ABANDONED_SECONDS = 3600.0  # no single write takes that long


class HintKeeper:
    """Which hints lead somewhere; a digest of each, so that a million files need no more than their number."""

    def __init__(self) -> None:
        self._good: set[bytes] = set()

    def note(self, path: str, manifest: Manifest) -> None:
        for _, data in itertools.islice(hint_objects(path, manifest), 1):
            self._good.add(_identity(data))

    def leads_somewhere(self, data: Buffer) -> bool:
        return _identity(data) in self._good


def remove_leftovers(
    transport: Transport, hints: HintKeeper, *, now: float, grace: float, progress: CareProgress, dry_run: bool
) -> tuple[int, int]:
    """Remove stale hints and abandoned objects; returns how many of each."""
    stale = _remove(transport, _stale_hints(transport, hints, now, progress), dry_run)
    abandoned = _remove(transport, _abandoned(transport, now), dry_run)
    try:
        unfinished = transport.stale_temporaries(max(grace, ABANDONED_SECONDS), remove=not dry_run)
    except (AccessDenied, ReadOnlyTarget):
        if not dry_run:
            raise
        unfinished = []
    return stale, abandoned + len(unfinished)


def _stale_hints(transport: Transport, hints: HintKeeper, now: float, progress: CareProgress) -> list[ObjectInfo]:
    # A hint written since the manifests were read may be of a file that they do not show yet.
    old = [info for info in transport.list(HINTS) if info.modified < now]
    progress.begin("checking hints", len(old))
    stale = []
    for info, good in zip(old, in_parallel(lambda info: _is_good(transport, info, hints), old), strict=True):
        progress.add()
        if not good:
            stale.append(info)
    return stale


def _is_good(transport: Transport, info: ObjectInfo, hints: HintKeeper) -> bool:
    try:
        return hints.leads_somewhere(transport.read(info.key))
    except ObjectMissing:
        return True  # nothing is left to remove


def _abandoned(transport: Transport, now: float) -> list[ObjectInfo]:
    found = []
    for info in transport.list("care/"):
        age = now - info.modified
        probe = info.key.startswith(PROBES) and age > ABANDONED_SECONDS
        if probe or (info.key.startswith(DAMAGED) and age > DAMAGED_KEPT_SECONDS):
            found.append(info)
    return found


def _remove(transport: Transport, found: list[ObjectInfo], dry_run: bool) -> int:
    if dry_run:
        return len(found)

    def remove(info: ObjectInfo) -> bool:
        try:
            return transport.delete(info.key, if_match=info.etag)
        except Changed:
            return False

    return sum(in_parallel(remove, found))


def _identity(data: Buffer) -> bytes:
    return blake3(data).digest()[:16]
