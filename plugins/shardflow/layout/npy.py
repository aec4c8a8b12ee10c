"""NumPy's .npy: a header that says dtype and shape, then one array; also what .npz archives hold."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shardflow.dtype import DType
from shardflow.layout.model import Damaged, Layout, ReadAt, Segment, Tensor, dense_length, exactly, lay_out

MAGIC = b"\x93NUMPY"
ARRAY = "array"  # the format has no name for its only tensor

_LARGEST_HEADER = 10_000  # numpy's own limit
_HEADER = re.compile(
    r"\{\s*'descr':\s*'(?P<descr>[<>|=][a-zA-Z][0-9]+)',"
    r"\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9 ,L]*)\),?\s*\}\s*"
)
_DTYPES = {
    "f8": DType.F64,
    "f4": DType.F32,
    "f2": DType.F16,
    "V2": DType.BF16,  # what ml_dtypes leaves of bfloat16; numpy itself makes no two-byte void arrays
    "i8": DType.I64,
    "i4": DType.I32,
    "i2": DType.I16,
    "i1": DType.I8,
    "u8": DType.U64,
    "u4": DType.U32,
    "u2": DType.U16,
    "u1": DType.U8,
    "b1": DType.BOOL,
    "c8": DType.C64,
    "c16": DType.C128,
}


@dataclass(frozen=True, slots=True)
class Array:
    """One array: its segment, and its shape as the user sees it."""

    segment: Segment
    tensor: Tensor


def parse(read_at: ReadAt, size: int) -> Layout:
    """A file that is one array; whatever follows it is plain."""
    array = array_at(read_at, 0, size, ARRAY)
    return lay_out("npy", size, [array.segment], [array.tensor])


def array_at(read_at: ReadAt, start: int, end: int, name: str) -> Array:
    """The array whose header begins at `start` and which must fit before `end`."""
    preamble = exactly(read_at, start, 12, end)
    major = preamble[6]
    width = 2 if major == 1 else 4
    length = int.from_bytes(preamble[8 : 8 + width], "little")
    if not preamble.startswith(MAGIC) or major not in {1, 2, 3} or length > _LARGEST_HEADER:
        raise Damaged("not the header of an array")
    body = start + 8 + width + length
    header = exactly(read_at, body - length, length, end).decode("utf-8" if major == 3 else "latin-1")
    match = _HEADER.fullmatch(header)
    if match is None:
        raise Damaged(f"no plain array: {header[:80]!r}")
    return _array(match, body, end, name)


def _array(match: re.Match[str], body: int, end: int, name: str) -> Array:
    descr = match["descr"]
    shape = tuple(int(extent) for extent in match["shape"].replace("L", "").split(",") if extent.strip())
    itemsize = int(descr[2:]) * (4 if descr[1] == "U" else 1)
    length = dense_length(DType.BYTES, shape) * itemsize
    if body + length > end:
        raise Damaged(f"{length} bytes of array in {end - body}")
    kind = _DTYPES.get(descr[1:], DType.BYTES)
    stored = kind if descr[0] != ">" or kind.width == 1 else DType.BYTES  # codecs think in little-endian
    in_memory = shape[::-1] if match["fortran"] == "True" else shape
    return Array(Segment(body, length, stored, name, in_memory), Tensor(name, kind, shape))
