"""Thin factors for matrices into which an adapter was merged: found in the difference, or taken from the adapter.

A matrix is looked at in panels of whole chunks, so that memory stays bounded however large it is. A panel's factors are
made once, by the first thread that needs them.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from threading import BoundedSemaphore, Lock
from typing import NamedTuple

from shardflow.codec import Factors, factor_chunks, factors_from_adapter, fit_factors
from shardflow.codec.merges import DTYPES, MOST_BASES
from shardflow.delta.adapters import Adapter, Sides
from shardflow.delta.effort import Effort
from shardflow.delta.matching import Match
from shardflow.layout import ReadAt

PANEL_WORDS = 4 << 20
SMALLEST_SIDE = 64
_REMEMBERED = 64  # panels

FIT_BYTES = 96 << 20  # about what fitting the factors of one panel takes


class PanelFactors(NamedTuple):
    """The chunks of factors that a panel was changed by, and where a chunk of the matrix lies in the panel."""

    chunks: tuple[bytes, ...]
    first_word: int


@dataclass(slots=True)
class _Panel:
    lock: Lock = field(default_factory=Lock)
    chunks: tuple[bytes, ...] | None = None  # empty: nothing of low rank


class Merges:
    """The factors of one newer file against one older one."""

    def __init__(self, read_new: ReadAt, read_old: ReadAt, effort: Effort, adapter: Adapter | None) -> None:
        self._read_new = read_new
        self._read_old = read_old
        self._effort = effort
        self._adapter = adapter
        self._panels: OrderedDict[tuple[int, int], _Panel] = OrderedDict()
        self._lock = Lock()
        self._fitting = BoundedSemaphore(effort.fits_at_once)

    def is_matrix(self, whole: Match) -> bool:
        """Whether the tensor is one of those that adapters are merged into."""
        return self._panel_rows(whole) > 0

    def looks_merged(self, whole: Match, word: int) -> bool:
        """Whether the panel that holds a word of the tensor was changed by something of low rank."""
        rows = self._panel_rows(whole)
        return bool(rows and self._of(whole, word // whole.row_words // rows, rows))

    def factors(self, match: Match, length: int) -> PanelFactors | None:
        """What predicts a chunk of `length` bytes, if it lies in one panel and that was merged into."""
        rows = self._panel_rows(match)
        if not rows:
            return None
        words = length // match.new.dtype.width
        panel = match.first_word // match.row_words // rows
        first_word = match.first_word - panel * rows * match.row_words
        if first_word + words > rows * match.row_words:
            return None
        chunks = self._of(match, panel, rows)
        return PanelFactors(chunks, first_word) if chunks else None

    def _panel_rows(self, match: Match) -> int:
        """Rows of a panel: as many whole chunks as are looked at together; 0 where no adapter is merged."""
        new, columns = match.new, match.row_words
        wanted = self._adapter is not None or self._effort.low_rank > 0
        fits = new.shape == match.old.shape and not match.is_cast and new.dtype in DTYPES and len(new.shape) == 2
        chunk_rows = self._effort.chunk_bytes // (columns * new.dtype.width) if columns else 0
        if not (wanted and fits and chunk_rows) or min(new.shape) < SMALLEST_SIDE:
            return 0
        return chunk_rows * max(1, PANEL_WORDS // (chunk_rows * columns))

    def _of(self, match: Match, number: int, rows: int) -> tuple[bytes, ...]:
        key = match.index, number
        with self._lock:
            panel = self._panels.setdefault(key, _Panel())
            self._panels.move_to_end(key)
            while len(self._panels) > _REMEMBERED:
                self._panels.popitem(last=False)
        with panel.lock:
            if panel.chunks is None:
                found = self._found(match, number * rows, min(rows, match.new.shape[0] - number * rows))
                chunks = factor_chunks(found) if found else []
                panel.chunks = tuple(chunks) if len(chunks) < MOST_BASES else ()
            return panel.chunks

    def _found(self, match: Match, first_row: int, rows: int) -> Factors | None:
        new, old = match.new, match.old
        start, length = first_row * match.row_words * new.dtype.width, rows * match.row_words * new.dtype.width
        sides = self._adapter.sides(new.name, new.shape) if self._adapter else None
        if sides is None and not self._effort.low_rank:
            return None
        with self._fitting:
            before = self._read_old(old.offset + start, length)
            if sides is not None:
                return _given(sides, first_row, rows, before, match)
            after = self._read_new(new.offset + start, length)
            return fit_factors(after, before, new.dtype, rows, self._effort.low_rank) if after != before else None


def _given(sides: Sides, first_row: int, rows: int, before: bytes, match: Match) -> Factors | None:
    part = sides.b[first_row : first_row + rows]
    return factors_from_adapter(sides.a, part, sides.scale, before, match.new.dtype)
