"""Which format a file has, told by its first bytes (never its name), and plain bytes for whatever is damaged."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from shardflow.layout import gguf, npy, safetensors, zipped
from shardflow.layout.model import Damaged, Layout, ReadAt, exactly, plain

if TYPE_CHECKING:
    from collections.abc import Callable

    Parse = Callable[[ReadAt, int], Layout]

# What believing a lie can raise. Failures of reading itself (OSError and the store's own) pass through.
_SIGNS_OF_DAMAGE = (
    Damaged,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    EOFError,
    RecursionError,
)


def inspect(read_at: ReadAt, size: int) -> Layout:
    """The layout of `size` bytes; content that no format explains in full is one plain run."""
    try:
        parse = _format_of(exactly(read_at, 0, min(size, 16), size))
        return parse(read_at, size) if parse else plain(size)
    except _SIGNS_OF_DAMAGE:
        return plain(size)


def _format_of(head: bytes) -> Parse | None:
    if head.startswith(zipped.MAGIC):
        return zipped.parse
    if head.startswith(npy.MAGIC):
        return npy.parse
    if head.startswith(gguf.MAGIC):
        return gguf.parse
    if safetensors.begins(head):
        return safetensors.parse
    return None
