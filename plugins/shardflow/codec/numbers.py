"""Words as numbers in a row: how far one is from another, counted in the values that lie between."""

from __future__ import annotations

from dataclasses import dataclass

from shardflow.dtype import DType


@dataclass(frozen=True, slots=True)
class Number:
    """What the bits of a word mean: an integer, or sign, exponent and mantissa of a float.

    Floats are put into the order of their values: the bits of a negative one are flipped below its sign, and what
    results counts up from the most negative NaN to the most positive one as a two's complement integer does.
    """

    width: int  # bytes
    mantissa: int  # bits; 0 for integers
    low: int = 0  # bits at the low end that are zero in every word, and do not count

    @property
    def dtype(self) -> str:
        return f"<u{self.width}"

    @property
    def top(self) -> int:
        """Where the sign is among the bits that count."""
        return 8 * self.width - 1 - self.low

    @property
    def mask(self) -> int:
        """All ones, as many as count."""
        return (2 << self.top) - 1

    @property
    def flips(self) -> int:
        """What a set sign flips to put a word into the order of the values."""
        return self.mask >> 1 if self.mantissa else 0

    @property
    def exponents(self) -> int:
        """All ones, as wide as the exponent; integers have none."""
        return (1 << 8 * self.width - 1 - self.mantissa) - 1 if self.mantissa else 0

    @property
    def most_low(self) -> int:
        """How many low bits there can be: an exponent always counts."""
        return self.mantissa or 8 * self.width - 1


_MANTISSA = {
    DType.F64: 52,
    DType.F32: 23,
    DType.F16: 10,
    DType.BF16: 7,
    DType.F8_E4M3: 3,
    DType.F8_E5M2: 2,
    DType.C64: 23,  # the two halves of a complex number are floats of one kind
    DType.C128: 52,
}
_COMPLEX = {DType.C64, DType.C128}


def number_of(dtype: DType) -> Number:
    """How the words of a chunk with elements of this type are counted; bytes without elements are small integers."""
    return Number(dtype.width // 2 if dtype in _COMPLEX else dtype.width, _MANTISSA.get(dtype, 0))


EVERY_NUMBER = frozenset(number_of(dtype) for dtype in DType)
"""What stored data may name; anything else could ask for a table of any size."""
