"""How much of a file an interrupted get had in place: the chunks of it that stand where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shardflow.store.manifest import Manifest


def chunks_in_place(manifest: Manifest, source: Path, target: Path) -> int:
    """Bytes of whole chunks that are right in the target, or else in the one unfinished file beside it."""
    started = [target] if target.exists() else list(target.parent.glob(".shardflow-*.part"))
    if not started or started[0].stat().st_size == 0:
        return 0
    wanted, found = np.memmap(source, np.uint8, "r"), np.memmap(started[0], np.uint8, "r")
    ends = np.cumsum(manifest.table.size.astype(np.int64)[manifest.sequence.astype(np.int64)]).tolist()
    arrived = 0
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        if np.array_equal(wanted[start:end], found[start:end]):
            arrived += end - start
    return arrived
