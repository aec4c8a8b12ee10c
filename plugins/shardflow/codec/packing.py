"""Small numbers side by side in a byte: one, two or four bits each, the first in the lowest bits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from shardflow.codec.buffers import Bytes


def packed_size(count: int, bits: int) -> int:
    return -(-count * bits // 8)


def pack(values: Bytes, bits: int) -> Bytes:
    """`values`, each of which fits into `bits`; the last byte is filled up with zeros."""
    if bits == 8:
        return values
    if bits == 1:
        return np.packbits(values, bitorder="little")
    packed: Bytes
    if bits == 4:
        pairs = _whole(values, 2).view("<u2")
        packed = (pairs | pairs >> 4).astype(np.uint8)
    else:
        fours = _whole(values, 4).view("<u4")
        fours = fours | fours >> 6
        packed = (fours | fours >> 12).astype(np.uint8)
    return packed


def _whole(values: Bytes, multiple: int) -> Bytes:
    missing = -values.size % multiple
    return np.concatenate([values, np.zeros(missing, np.uint8)]) if missing else np.ascontiguousarray(values)


def unpack(packed: Bytes, bits: int, count: int) -> Bytes:
    """The `count` values in `packed`, which has `packed_size(count, bits)` bytes."""
    if bits == 8:
        return packed
    if packed.size and packed[-1] >> ((count * bits - 1) % 8 + 1):
        raise CorruptData("bits behind the last packed number are not zero")
    if bits == 1:
        return np.unpackbits(packed, count=count, bitorder="little")
    if bits == 4:
        wide = packed.astype("<u2")
        wide = (wide | wide << 4) & 0x0F0F
    else:
        wide = packed.astype("<u4")
        wide = wide | wide << 12
        wide = (wide | wide << 6) & 0x03030303
    values: Bytes = wide.view(np.uint8)[:count]
    return values
