"""GGUF: metadata, a list of tensors, the tensors; quantised blocks stay bytes with a name and a shape."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from shardflow.dtype import DType
from shardflow.layout.model import (
    MOST_TENSORS,
    Damaged,
    Layout,
    ReadAt,
    Segment,
    Tensor,
    dense_length,
    exactly,
    lay_out,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = b"GGUF"

_LARGEST_HEADER = 64 << 20  # a vocabulary of 250,000 words with its merges takes about 10 MiB
_FIRST_READ = 1 << 20
_MOST_DIMENSIONS = 8
_DEEPEST_ARRAY = 4

_WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # metadata value type -> bytes
_UINT32, _STRING, _ARRAY = 4, 8, 9

_DTYPES = {
    0: DType.F32,
    1: DType.F16,
    24: DType.I8,
    25: DType.I16,
    26: DType.I32,
    27: DType.I64,
    28: DType.F64,
    30: DType.BF16,
}
_BLOCKS = {  # quantised type -> elements of a block, bytes of a block
    2: (32, 18),  # Q4_0
    3: (32, 20),  # Q4_1
    6: (32, 22),  # Q5_0
    7: (32, 24),  # Q5_1
    8: (32, 34),  # Q8_0
    10: (256, 84),  # Q2_K
    11: (256, 110),  # Q3_K
    12: (256, 144),  # Q4_K
    13: (256, 176),  # Q5_K
    14: (256, 210),  # Q6_K
    16: (256, 66),  # IQ2_XXS
    17: (256, 74),  # IQ2_XS
    18: (256, 98),  # IQ3_XXS
    19: (256, 50),  # IQ1_S
    20: (32, 18),  # IQ4_NL
    21: (256, 110),  # IQ3_S
    22: (256, 82),  # IQ2_S
    23: (256, 136),  # IQ4_XS
    29: (256, 56),  # IQ1_M
    34: (256, 54),  # TQ1_0
    35: (256, 66),  # TQ2_0
    39: (32, 17),  # MXFP4
    40: (64, 36),  # NVFP4
}


class _Placed(NamedTuple):
    """A tensor as the header declares it, its offset counted from the first tensor."""

    offset: int
    name: str
    shape: tuple[int, ...]
    kind: int


class _Header:
    """Reads forward through the header, fetching more of the file as it needs it."""

    def __init__(self, read_at: ReadAt, size: int) -> None:
        self._read_at, self._size = read_at, size
        self._held = bytearray()
        self.at = 0

    def number(self, form: str) -> int:
        start = self.skip(struct.calcsize(form))
        value: int = struct.unpack_from("<" + form, self._held, start)[0]
        return value

    def string(self) -> str:
        start = self.skip(self.number("Q"))
        return self._held[start : self.at].decode()

    def skip_strings(self, count: int) -> None:
        """Written out because vocabularies are long."""
        at, held = self.at, self._held
        for _ in range(count):
            if at + 8 > len(held):
                self._fetch(at + 8)
            at += 8 + int.from_bytes(held[at : at + 8], "little")
        self.at = at
        self.skip(0)

    def skip(self, length: int) -> int:
        """Go on by `length` bytes, which are held from then on; returns where they start."""
        start, self.at = self.at, self.at + length
        if self.at > len(self._held):
            self._fetch(self.at)
        return start

    def _fetch(self, end: int) -> None:
        if end > min(self._size, _LARGEST_HEADER):
            raise Damaged(f"a header of {end} bytes or more")
        held = len(self._held)
        want = min(self._size, _LARGEST_HEADER, max(end, 2 * held, _FIRST_READ))
        self._held += exactly(self._read_at, held, want - held, self._size)


def parse(read_at: ReadAt, size: int) -> Layout:
    """Every tensor a segment; alignment between them and the header are plain."""
    header = _Header(read_at, size)
    header.skip(len(MAGIC))
    version = header.number("I")
    tensors = header.number("Q")
    if version not in {2, 3} or tensors > MOST_TENSORS:
        raise Damaged(f"version {version} with {tensors} tensors")
    alignment = _alignment(header, header.number("Q"))
    placed = sorted(_placed(header) for _ in range(tensors))
    base = -(-header.at // alignment) * alignment
    ends = [*(base + tensor.offset for tensor in placed[1:]), size]
    found = [_segment(tensor, base, end) for tensor, end in zip(placed, ends, strict=False)]
    return lay_out("gguf", size, found, [Tensor(at.name, at.dtype, at.shape) for at in found])


def _alignment(header: _Header, values: int) -> int:
    """Walk over the metadata; of all values only the alignment of tensors matters here."""
    alignment = 32
    for _ in range(values):
        key, kind = header.string(), header.number("I")
        if key == "general.alignment" and kind == _UINT32:
            alignment = header.number("I")
        else:
            _skip_value(header, kind, _DEEPEST_ARRAY)
    if not 0 < alignment <= 1 << 20:
        raise Damaged(f"tensors aligned to {alignment}")
    return alignment


def _skip_value(header: _Header, kind: int, depth: int) -> None:
    if kind == _STRING:
        header.skip_strings(1)
    elif kind != _ARRAY:
        header.skip(_WIDTHS[kind])
    elif depth == 0:
        raise Damaged("arrays nested too deep")
    else:
        inner, count = header.number("I"), header.number("Q")
        if inner in _WIDTHS:
            header.skip(_WIDTHS[inner] * count)
        elif inner == _STRING:
            header.skip_strings(count)
        else:
            for _ in range(count):
                _skip_value(header, inner, depth - 1)


def _placed(header: _Header) -> _Placed:
    name, dimensions = header.string(), header.number("I")
    if not name or dimensions > _MOST_DIMENSIONS:
        raise Damaged(f"{name!r} has {dimensions} dimensions")
    shape = tuple(header.number("Q") for _ in range(dimensions))[::-1]  # the file lists the fastest first
    kind = header.number("I")
    return _Placed(header.number("Q"), name, shape, kind)


def _segment(tensor: _Placed, base: int, end: int) -> Segment:
    start = base + tensor.offset
    dtype = _DTYPES.get(tensor.kind, DType.BYTES)
    length = _length(tensor.kind, dtype, tensor.shape)
    return Segment(start, end - start if length is None else length, dtype, tensor.name, tensor.shape)


def _length(kind: int, dtype: DType, shape: Sequence[int]) -> int | None:
    """None: a kind of block from the future, which then reaches up to the next tensor."""
    dense = dense_length(dtype, shape)
    if kind in _DTYPES:
        return dense
    if kind not in _BLOCKS:
        return None
    elements, width = _BLOCKS[kind]
    if dense % elements:
        raise Damaged(f"{dense} elements in blocks of {elements}")
    return dense // elements * width
