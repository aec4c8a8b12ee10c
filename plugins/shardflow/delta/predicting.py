"""Predicts the chunks of a file from an older one, tensor by tensor, in the ways that served a sample of the tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from shardflow.codec import Prediction, cast, estimate, fitted_cast, merged, unchanged
from shardflow.codec.casts import MOST_BASES
from shardflow.codec.numbers import number_of
from shardflow.delta.adapters import Adapter
from shardflow.delta.bases import Attempt, BaseFile, Piece
from shardflow.delta.effort import Effort
from shardflow.delta.matching import Match, Matches
from shardflow.delta.merging import Merges
from shardflow.delta.pairing import pairs
from shardflow.dtype import DType
from shardflow.layout import Layout, ReadAt

SAMPLE_BYTES = 256 << 10
SMALL_SAMPLE = 32 << 10  # of small tensors an eighth is enough: looking at all of them would be the most of the work
NEARLY_THE_SAME = 0.02  # of the sample: nothing that needs more than the base is looked for below it
SPEAK_FOR_ALL = 3  # kinds of tensors that no adapter was merged into
_CLEARLY = 0.97  # of the size without: what a scale must save to be tried on a whole tensor


class Way(NamedTuple):
    """What served a sample of a tensor: the share of its bytes that was left, with a base and without."""

    share: float
    alone: float
    scaled: bool = False
    word: int = 0  # where the sample was taken


_NEAR = Way(0.0, 1.0)


@dataclass(slots=True)
class _Tensor:
    """What was found out about a tensor, by whichever thread came first."""

    lock: Lock = field(default_factory=Lock)
    way: Way | None = None
    merged: bool | None = None


@dataclass(slots=True)
class _Kind:
    """Tensors of the same name but for the number of a layer."""

    one: int
    members: int
    lock: Lock = field(default_factory=Lock)
    merged: bool | None = None  # False: into none of them


class Predictor:
    """One newer file against one older one; its methods may be called by several threads."""

    def __init__(
        self,
        new: Layout,
        read_new: ReadAt,
        base: BaseFile,
        effort: Effort | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        self._new = new
        self._read_new = read_new
        self._base = base
        self._effort = effort or Effort()
        self._matches = Matches(new, base.layout, pairs(new, base.layout, read_new, base.read_at))
        self._merges = Merges(read_new, base.read_at, self._effort, adapter)
        self._tensors = {index: _Tensor() for index in self._matches.indices()}
        self._kinds = {
            kind: _Kind(members[len(members) // 2], len(members)) for kind, members in self._matches.kinds().items()
        }
        self._sought = Lock()
        self._may_be_merged: bool | None = True if adapter else None if self._effort.low_rank else False

    def __len__(self) -> int:
        """How many tensors have a counterpart."""
        return len(self._matches)

    def attempts(self, start: int, end: int, data: memoryview) -> list[Attempt]:
        """Predictions worth trying for a chunk: the bytes `data` of the newer file, from `start` to `end`."""
        match = self._matches.find(start, end)
        if match is None:
            return []
        is_merged = self._is_merged(match)
        way = self._way(match) if is_merged or self._is_worth_a_look(match) else _NEAR
        if not is_merged and way.share > self._effort.worth * way.alone:
            return []
        placed = self._base.pieces(match.old_start, match.old_end)
        skipped = match.old_start - placed[0].start if placed else -1
        width = number_of(match.old.dtype).width
        if not 0 < len(placed) < MOST_BASES or skipped < 0 or skipped % width:
            return []
        pieces = tuple(each.piece for each in placed)
        if match.is_cast or skipped or len(pieces) > 1 or len(pieces[0].data) != len(data):
            return [Attempt(_cast(match, data, pieces, skipped // width, fit=match.is_cast), pieces)]
        found = [Attempt(unchanged(pieces[0].data, match.new.dtype), pieces)]
        if way.scaled:
            found.append(Attempt(_cast(match, data, pieces, 0, fit=True), pieces))
        factors = self._merges.factors(match, len(data)) if is_merged else None
        if factors:
            mades = tuple(Piece(None, memoryview(chunk)) for chunk in factors.chunks)
            predictions = merged(pieces[0].data, match.new.dtype, factors.chunks, factors.first_word)
            found += [Attempt(prediction, (*pieces, *mades)) for prediction in predictions]
        return found

    def expected(self, start: int, end: int) -> float:
        """About the share of a chunk's bytes that its encoding will take; 1 where there is nothing to go by."""
        match = self._matches.find(start, end)
        return self._way(match).share if match else 1.0

    def is_merged(self, start: int, end: int) -> bool:
        """Whether an adapter was merged into the tensor of a chunk."""
        match = self._matches.find(start, end)
        return match is not None and self._is_merged(match)

    def likeness(self, tensors: int = 2) -> float:
        """About the share of the file's bytes that is left, judged by its largest tensors that have a counterpart."""
        total = sum(segment.length for segment in self._new.segments if segment.name)
        indices = self._matches.indices()
        paired = sum(self._matches.whole(index).new.length for index in indices)
        if not paired:
            return 1.0
        shares = [self._way(self._matches.whole(index)).share for index in indices[:tensors]]
        return (sum(shares) / len(shares) * paired + (total - paired)) / max(total, 1)

    def _is_worth_a_look(self, match: Match) -> bool:
        """Whether a sample of the tensor tells what an encoder does not see in the chunk itself.

        That is whether the tensor was scaled, and whether pieces of the base are worth fetching: all those of a large
        tensor, of which the look needs one.
        """
        may_be_scaled = match.is_cast or match.new.dtype is DType.F32
        return may_be_scaled or not (self._base.at_hand or match.new.length <= self._effort.chunk_bytes)

    def _way(self, match: Match) -> Way:
        tensor = self._tensors[match.index]
        with tensor.lock:
            if tensor.way is None:
                tensor.way = self._looked_at(self._matches.whole(match.index))
        return tensor.way

    def _is_merged(self, match: Match) -> bool:
        """Whether an adapter was merged into the tensor; dear to find out, so one tensor of a kind speaks for all."""
        with self._sought:
            if self._may_be_merged is None:
                self._may_be_merged = self._may_be()
        if not self._may_be_merged:
            return False
        kind = self._kinds[self._matches.kind(match.index)]
        whole = self._matches.whole(kind.one)
        return (self._way(whole).share <= NEARLY_THE_SAME or self._is_merged_kind(kind)) and self._is_itself_merged(
            match
        )

    def _may_be(self) -> bool:
        """Whether an adapter was merged into any tensor: where the largest kinds have none, the others have none.

        A kind of one tensor, as an embedding, may have been trained beside an adapter, and does not speak for others.
        """
        against = 0
        for kind in sorted(self._kinds.values(), key=lambda kind: -self._matches.whole(kind.one).new.length):
            whole = self._matches.whole(kind.one)
            if self._merges.is_matrix(whole) and self._way(whole).share > NEARLY_THE_SAME:
                if self._is_merged_kind(kind):
                    return True
                against += kind.members > 1
            if against == SPEAK_FOR_ALL:
                return False
        return True

    def _is_merged_kind(self, kind: _Kind) -> bool:
        with kind.lock:
            if kind.merged is None:
                kind.merged = self._is_itself_merged(self._matches.whole(kind.one))
        return kind.merged

    def _is_itself_merged(self, match: Match) -> bool:
        way, tensor = self._way(match), self._tensors[match.index]
        with tensor.lock:
            if tensor.merged is None:
                whole = self._matches.whole(match.index)
                tensor.merged = way.share > NEARLY_THE_SAME and self._merges.looks_merged(whole, way.word)
        return tensor.merged

    def _looked_at(self, whole: Match) -> Way:
        """Compares the middle of a tensor, where a table of words is more typical than at its rare begin and end."""
        new, old = whole.new, whole.old
        words = (whole.old_end - whole.old_start) // old.dtype.width
        count = min(words, SAMPLE_BYTES // new.dtype.width, max(words // 8, SMALL_SAMPLE // new.dtype.width))
        first = (words - count) // 2
        data = self._read_new(new.offset + first * new.dtype.width, count * new.dtype.width)
        before = self._base.read_at(old.offset + first * old.dtype.width, count * old.dtype.width)
        if data == before:
            return Way(0.0, 1.0)
        pieces, view = (Piece(None, memoryview(before)),), memoryview(data)
        alone = estimate(view, new.dtype) / len(view)
        start = new.offset + first * new.dtype.width
        sample = Match(whole.index, new, old, start, start + len(data), 0, len(before))
        as_before = None if whole.is_cast else unchanged(before, new.dtype)
        plain = estimate(view, new.dtype, as_before or _cast(sample, view, pieces, 0, fit=True)) / len(view)
        if whole.is_cast or plain <= NEARLY_THE_SAME:
            return Way(plain, alone, word=first)
        share, scaled = plain, False
        if new.dtype is DType.F32:
            share = min(plain, estimate(view, new.dtype, _cast(sample, view, pieces, 0, fit=True)) / len(view))
            scaled = share < _CLEARLY * plain
        return Way(share, alone, scaled, first)


def _cast(match: Match, data: memoryview, pieces: tuple[Piece, ...], left_out: int, *, fit: bool) -> Prediction:
    bases = [piece.data for piece in pieces]
    old, new = match.old.dtype, match.new.dtype
    if not fit:
        return cast(bases, old, new, len(data), left_out)
    row = match.row_words
    return fitted_cast(data, bases, old, new, left_out, row, match.first_word % row if row else 0)
