"""The planes codec: numbers cut into their first, second, ... bytes, each plane coded alone.

What repeats in numbers that were trained or measured is the byte that holds the exponent; the others are noise. Apart,
the one shrinks to its entropy at the speed of a Huffman coder and the rest is copied.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shardflow.codec import frames, streams
from shardflow.codec.buffers import scratch
from shardflow.codec.encoded import CodecId, Encoded
from shardflow.codec.kernels import kernels_for
from shardflow.codec.streams import Way
from shardflow.codec.words import Fold, Form
from shardflow.errors import CorruptData
from shardflow.loans import BufferPool

if TYPE_CHECKING:
    from shardflow.codec.buffers import Bytes
    from shardflow.codec.kernels.contract import Splitter, Words

_HEADER = struct.Struct("<BBB")  # width, dropped bytes, fold
_ENTRY = struct.Struct("<BI")  # how a plane is coded, and in how many bytes
_CONSTANT, _RAW, _FRAME = 0, 1, 2

_pool = BufferPool()


def encode(data: memoryview, form: Form) -> Encoded | None:
    """The planes of `data`, or None where they do not pay or where the bytes as they lie promise to be smaller."""
    count = len(data) // form.width
    words = np.frombuffer(data, form.dtype, count)
    picked = streams.sample(words)
    form = Form(form.width, _dropped(words, picked), form.fold)
    ways = _choose_ways(picked, form)
    if ways is None:
        return None
    stored = _write(words, form, ways, data[count * form.width :])
    return Encoded(CodecId.PLANES, (stored,), len(stored)) if streams.worth(len(stored), len(data)) else None


def _dropped(words: Words, picked: Words) -> int:
    """How many low bytes are zero in every word: float32 that was bfloat16 or float16, round counts, all zeros."""
    return _zero_bytes(words) if _zero_bytes(picked) else 0


def _zero_bytes(words: Words) -> int:
    seen = int(np.bitwise_or.reduce(words))
    zero_bits = (seen & -seen).bit_length() - 1 if seen else 8 * words.itemsize
    return min(zero_bits // 8, words.itemsize - 1)


def _choose_ways(picked: Words, form: Form) -> list[Way] | None:
    """How to code each plane, tried on sampled words; None where the words' own bytes are better left together."""
    split = kernels_for(picked.nbytes).splitter(picked, form)
    plane = scratch("plane", picked.size)
    trials = []
    for number in range(form.planes):
        split(number, plane)
        trials.append(streams.try_ways(plane))
    size = sum(trial.size for trial in trials)
    if not streams.worth(size, picked.nbytes):
        return None
    # Noise in the lowest plane means that words do not repeat; where they may, the slower way must pay by an eighth.
    if trials[0].way is not Way.RAW and streams.try_ways(picked.view(np.uint8)).size < size - size // 8:
        return None
    return [trial.way for trial in trials]


def _write(words: Words, form: Form, ways: list[Way], tail: memoryview) -> memoryview:
    split = kernels_for(words.nbytes).splitter(words, form)
    at = _HEADER.size + form.planes * _ENTRY.size
    stored = _pool.lend(at + form.planes * words.size + len(tail))
    _HEADER.pack_into(stored, 0, form.width, form.dropped, form.fold)
    for number, way in enumerate(ways):
        room = np.frombuffer(stored[at : at + words.size], np.uint8)
        coding, length = _write_plane(split, number, way, room)
        _ENTRY.pack_into(stored, _HEADER.size + number * _ENTRY.size, coding, length)
        at += length
    stored[at : at + len(tail)] = tail
    return stored[: at + len(tail)]


def _write_plane(split: Splitter, number: int, way: Way, room: Bytes) -> tuple[int, int]:
    """Code one plane into `room`, which is as long as the plane; gives the plane's entry in the table."""
    if way is Way.RAW:
        split(number, room)
        return _RAW, room.size
    plane = scratch("plane", room.size)
    split(number, plane)
    if way is Way.CONSTANT and streams.is_constant(plane):
        room[0] = plane[0]
        return _CONSTANT, 1
    frame = frames.by_huffman(plane.data) if way is Way.HUFFMAN else frames.by_matches(plane.data)
    if len(frame) >= room.size:
        room[:] = plane
        return _RAW, room.size
    room[: len(frame)] = np.frombuffer(frame, np.uint8)
    return _FRAME, len(frame)


def decode(stored: memoryview, out: memoryview) -> None:
    """Fill `out` from its planes; every length is checked against the stored bytes and `out` before it is used."""
    form = _read_form(stored)
    count = len(out) // form.width
    coded, tail = _read_table(stored, form, count, len(out) % form.width)
    space = scratch("planes", form.planes * count).reshape(form.planes, count)
    planes = [_read_plane(plane, row) for plane, row in zip(coded, space, strict=True)]
    whole = count * form.width
    kernels_for(whole).join(planes, form, np.frombuffer(out[:whole], form.dtype))
    out[whole:] = tail


class _Coded(NamedTuple):
    coding: int
    data: memoryview


def _read_form(stored: memoryview) -> Form:
    if len(stored) < _HEADER.size:
        raise CorruptData("planes end before their header does")
    width, dropped, fold = _HEADER.unpack_from(stored)
    if width not in {2, 4, 8} or dropped >= width or fold not in set(Fold):
        raise CorruptData(f"planes of {dropped}/{width} bytes folded by {fold} are nothing that was ever written")
    return Form(width, dropped, Fold(fold))


def _read_table(stored: memoryview, form: Form, count: int, tail: int) -> tuple[list[_Coded], memoryview]:
    """The planes and what follows them, cut so that nothing is missing, nothing overlaps and nothing is left over."""
    start = _HEADER.size + form.planes * _ENTRY.size
    if len(stored) < start:
        raise CorruptData("planes end before their table does")
    table = list(_ENTRY.iter_unpack(stored[_HEADER.size : start]))
    for coding, length in table:
        fits = {_CONSTANT: length == 1, _RAW: length == count, _FRAME: length < count}
        if not fits.get(coding, False) or not count:
            raise CorruptData(f"a plane of {count} bytes cannot be stored by coding {coding} in {length}")
    ends = list(accumulate((length for _, length in table), initial=start))
    if ends[-1] + tail != len(stored):
        raise CorruptData(f"planes take {ends[-1] + tail} bytes where {len(stored)} are stored")
    coded = [_Coded(coding, stored[end - length : end]) for (coding, length), end in zip(table, ends[1:], strict=True)]
    return coded, stored[ends[-1] :]


def _read_plane(plane: _Coded, space: Bytes) -> Bytes:
    """The plane's bytes: where they are stored, or in `space`."""
    if plane.coding == _RAW:
        return np.frombuffer(plane.data, np.uint8)
    if plane.coding == _CONSTANT:
        space.fill(plane.data[0])
    else:
        frames.read_frame(plane.data, space.data)
    return space
