"""Readers of a small file whose content, chunks and order are known."""

from __future__ import annotations

from shardflow.store.manifest import Manifest
from shardflow.store.reader import Reader
from shardflow.transport import ByteBudget, Totals, Transport
from store.samples import in_memory, noise, stored

BUDGET = ByteBudget(64 << 20)
CHUNKS = [noise(1000 + 100 * number, number) for number in range(5)]
SEQUENCE = [CHUNKS[number] for number in (0, 1, 2, 1, 3, 4, 0)]
CONTENT = b"".join(SEQUENCE)


def opened(place: Transport, manifest: Manifest, **more: object) -> Reader:
    return Reader("m", place, manifest, BUDGET, **more)  # type: ignore[arg-type]


def counted(sequence: list[bytes], **how: object) -> tuple[Reader, Totals]:
    """A reader, and what it fetches."""
    place, totals = in_memory(), Totals()
    manifest = stored(place, sequence, **how)  # type: ignore[arg-type]
    return opened(place.session(totals=totals), manifest), totals
