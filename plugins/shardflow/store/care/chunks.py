"""Proves one encoded chunk: decodes it and compares the result with its name."""

from __future__ import annotations

from enum import Enum

from typing_extensions import Buffer

from shardflow.errors import CorruptData
from shardflow.store.errors import FormatUnknown
from shardflow.store.fetch import decoded
from shardflow.store.pack import MAX_CHUNK_BYTES, PackEntry


class Verdict(Enum):
    GOOD = "good"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"  # coded in a way that this version cannot decode: neither good nor bad


def verdict(entry: PackEntry, stored: Buffer) -> Verdict:
    """Whether these stored bytes are the chunk that the entry names.

    Only codecs that stand on their own exist so far. A chunk that is coded against others is UNKNOWN here; with its
    bases at hand, `decoded` is the one place that needs them.
    """
    if entry.bases:
        return Verdict.UNKNOWN
    if not 0 <= entry.size <= MAX_CHUNK_BYTES or memoryview(stored).nbytes != entry.stored:
        return Verdict.DAMAGED
    try:
        decoded(entry.codec, stored, entry.chunk, entry.size)
    except FormatUnknown:
        return Verdict.UNKNOWN
    except CorruptData:
        return Verdict.DAMAGED
    return Verdict.GOOD
