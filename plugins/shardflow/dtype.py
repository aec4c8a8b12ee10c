"""Element types of tensors, as a name, a width and (for floats) where the exponent lies."""

from __future__ import annotations

from enum import Enum


class DType(Enum):
    """One element type; `value` is (code, width in bytes, exponent bits). The code is written in stored data."""

    BYTES = (0, 1, 0)  # not a tensor: headers, text, anything without elements
    F64 = (1, 8, 11)
    F32 = (2, 4, 8)
    F16 = (3, 2, 5)
    BF16 = (4, 2, 8)
    F8_E4M3 = (5, 1, 4)
    F8_E5M2 = (6, 1, 5)
    I64 = (7, 8, 0)
    I32 = (8, 4, 0)
    I16 = (9, 2, 0)
    I8 = (10, 1, 0)
    U64 = (11, 8, 0)
    U32 = (12, 4, 0)
    U16 = (13, 2, 0)
    U8 = (14, 1, 0)
    BOOL = (15, 1, 0)
    C64 = (16, 8, 0)  # complex: pairs of floats, coded as opaque eight- or sixteen-byte elements
    C128 = (17, 16, 0)

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def width(self) -> int:
        """Bytes of one element."""
        return self.value[1]

    @property
    def exponent_bits(self) -> int:
        """Bits of the exponent, 0 for anything that is not a real float."""
        return self.value[2]

    @classmethod
    def from_code(cls, code: int) -> DType:
        return _BY_CODE[code]


_BY_CODE = {member.value[0]: member for member in DType}
