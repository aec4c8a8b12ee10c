"""Elements as unsigned little-endian words: how an element type is folded so that its bytes separate well."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from shardflow.dtype import DType


class Fold(IntEnum):
    """What happens to a word before it is cut into bytes. The numbers are part of the stored format."""

    NONE = 0
    ROTATE = 1  # left by one: the sign leaves the exponent alone and joins the mantissa, which is noise anyway
    ZIGZAG = 2  # small negative integers become small positive ones


@dataclass(frozen=True, slots=True)
class Form:
    """How a run of words becomes byte planes: `dropped` low bytes are zero in every word and are not stored."""

    width: int
    dropped: int
    fold: Fold

    @property
    def planes(self) -> int:
        return self.width - self.dropped

    @property
    def low(self) -> int:
        """Bits below the part that is kept."""
        return 8 * self.dropped

    @property
    def top(self) -> int:
        """Where the sign is in the part that is kept."""
        return 8 * self.planes - 1

    @property
    def mask(self) -> int:
        """All ones, as wide as the part that is kept."""
        return (1 << 8 * self.planes) - 1

    @property
    def step(self) -> int:
        """How far the fold shifts."""
        return 0 if self.fold is Fold.NONE else 1

    @property
    def sign_when_folded(self) -> int:
        """What a sign bit flips in the shifted word."""
        return self.mask if self.fold is Fold.ZIGZAG else self.step

    @property
    def sign_when_unfolded(self) -> int:
        """What a folded sign, the lowest bit, flips in the word that is shifted back."""
        return self.mask if self.fold is Fold.ZIGZAG else self.step << self.top

    @property
    def dtype(self) -> str:
        return f"<u{self.width}"


_WORDS = {
    DType.F64: (8, Fold.ROTATE),
    DType.F32: (4, Fold.ROTATE),
    DType.F16: (2, Fold.ROTATE),
    DType.BF16: (2, Fold.ROTATE),
    DType.I64: (8, Fold.ZIGZAG),
    DType.I32: (4, Fold.ZIGZAG),
    DType.I16: (2, Fold.ZIGZAG),
    DType.U64: (8, Fold.NONE),
    DType.U32: (4, Fold.NONE),
    DType.U16: (2, Fold.NONE),
    DType.C64: (4, Fold.ROTATE),  # the two halves of a complex number are floats of one kind
    DType.C128: (8, Fold.ROTATE),
}


def form_of(dtype: DType) -> Form | None:
    """The form in which elements of this type are split; None for elements of one byte, which need no splitting."""
    if dtype not in _WORDS:
        return None
    width, fold = _WORDS[dtype]
    return Form(width, 0, fold)
