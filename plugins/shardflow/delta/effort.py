"""How much work predicting is worth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to look, and what a base must save."""

    worth: float = 0.9  # of the size without a base: what an encoding with one may take at most
    low_rank: int = 256  # of merged adapters that are looked for; 0: none
    chunk_bytes: int = 4 << 20
    fits_at_once: int = 1
