"""Where a file is cut into chunks: at tensor borders where it has tensors, by content where it has none.

Cuts at tensor borders keep a tensor's chunks the same when its neighbours change size, and start every chunk on an
element, which the codecs need. Rows stay whole where they fit, so that a slice of a tensor reads few chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shardflow.dtype import DType
from shardflow.layout import Layout, Segment

SMALL_TENSOR = 64 << 10
MERGED_TENSORS = 256 << 10
GAP = 512


@dataclass(frozen=True, slots=True)
class Run:
    """The next `length` bytes of a file: one chunk, or (by_content) many that the content decides."""

    length: int
    dtype: DType
    by_content: bool


def plan(layout: Layout, chunk_bytes: int, by_content_above: int) -> Iterator[Run]:
    """Runs that cover the file in order."""
    merged, dtype = 0, DType.BYTES
    for segment in layout.segments:
        # What a zip archive writes between its members goes with the small tensors around it, if that keeps elements
        # where they should be.
        gap = not segment.name and segment.length < GAP and (merged + segment.length) % dtype.width == 0
        if merged and gap and merged + segment.length <= MERGED_TENSORS:
            merged += segment.length
            continue
        # Biases and norms by the thousand would make a chunk of a few hundred bytes each: neighbours of one dtype
        # share a chunk. Tensors alone decide it, so the same architecture is always cut the same way.
        small = segment.dtype is not DType.BYTES and segment.length < SMALL_TENSOR
        if merged and (not small or segment.dtype is not dtype or merged + segment.length > MERGED_TENSORS):
            yield Run(merged, dtype, by_content=False)
            merged = 0
        if small:
            merged, dtype = merged + segment.length, segment.dtype
        elif segment.dtype is DType.BYTES and segment.length > by_content_above:
            yield Run(segment.length, DType.BYTES, by_content=True)
        else:
            yield from _pieces(segment, chunk_bytes)
    if merged:
        yield Run(merged, dtype, by_content=False)


def _pieces(segment: Segment, chunk_bytes: int) -> Iterator[Run]:
    piece = _piece_bytes(segment, chunk_bytes)
    for start in range(0, segment.length, piece):
        yield Run(min(piece, segment.length - start), segment.dtype, by_content=False)


def _piece_bytes(segment: Segment, chunk_bytes: int) -> int:
    rows = segment.shape[0] if segment.shape else 1
    row = segment.length // rows if rows else 0
    if 0 < row <= chunk_bytes and row * rows == segment.length and row % segment.dtype.width == 0:
        return chunk_bytes // row * row
    return chunk_bytes // segment.dtype.width * segment.dtype.width
