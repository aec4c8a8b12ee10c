"""Encodes the chunks of a file: each by itself, or against chunks of other files where that takes less."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from blake3 import blake3

from shardflow import codec
from shardflow.delta.bases import Attempt
from shardflow.delta.choosing import Predictors
from shardflow.dtype import DType
from shardflow.errors import Cancelled, ShardflowError
from shardflow.store.chunks import MOST_BASE_BYTES
from shardflow.store.errors import SourceChanged

SURE_IT_IS_RAW, TRIED_WHEN_RAW = 4, 16  # after so many raw chunks, so many of each sixteen are tried still

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """A chunk that no file has and others rest on: the factors of a merged adapter."""

    chunk: bytes
    size: int
    encoded: codec.Encoded


@dataclass(frozen=True, slots=True)
class Coded:
    """An encoding, and what it rests on: rows of the catalog, and chunks made for it."""

    encoded: codec.Encoded
    bases: tuple[int | Made, ...] = ()


class Against:
    """Tries the chunks of one file against others, which are looked up when the first chunk is one the store has not.

    It gives up on files that cannot be read, unless the caller asked for just these. An encoding that rests on others
    takes less than `worth` of what the chunk takes by itself.
    """

    def __init__(self, find: Callable[[], Predictors], *, required: bool, worth: float = 1.0) -> None:
        self._find = find
        self._required = required
        self._worth = worth
        self._finding = Lock()
        self._predictors: Predictors | None = None
        self._given_up = False

    def encode(self, data: memoryview, dtype: DType, start: int) -> Coded | None:
        """An encoding that rests on others, proven by decoding it, or by itself; None where there is nothing to try."""
        if self._given_up:
            return None
        try:
            attempts = self._found().attempts(start, start + len(data), data)
        except (Cancelled, SourceChanged):
            raise
        except ShardflowError as error:
            if self._required:
                raise
            _log.warning("storing without a base: %s", error.message)
            self._given_up = True
            return None
        attempts = [attempt for attempt in attempts if _may_be_read(attempt)]
        if not attempts:
            return None
        return self._proven(data, dtype, attempts)

    def _found(self) -> Predictors:
        with self._finding:
            if self._predictors is None:
                self._predictors = self._find()
            return self._predictors

    def _proven(self, data: memoryview, dtype: DType, attempts: list[Attempt]) -> Coded | None:
        chosen = codec.encode_against(data, dtype, [attempt.prediction for attempt in attempts], self._worth)
        if chosen.prediction is None:
            return Coded(chosen.encoded)
        attempt = next(each for each in attempts if each.prediction is chosen.prediction)
        parts = chosen.encoded.parts
        stored = parts[0] if len(parts) == 1 else b"".join(parts)
        if not codec.leads_to(chosen.encoded.codec, stored, data, [piece.data for piece in attempt.bases]):
            _log.warning("an encoding of a chunk of %s that does not lead back was dropped", dtype.name)
            return None
        bases = tuple(_made(piece.data) if piece.key is None else piece.key for piece in attempt.bases)
        return Coded(chosen.encoded, bases)


class BlockEncoder:
    """Encodes the chunks of one block, and tries fewer of them where nothing becomes smaller.

    A block starts afresh, whichever thread has it, so the same file is always encoded in the same way.
    """

    def __init__(self, against: Against | None = None) -> None:
        self._against = against
        self._raw_in_a_row = 0

    def encode(self, data: memoryview, dtype: DType, start: int) -> Coded:
        """The encoding of a chunk that begins at `start` in its file."""
        if dtype is not DType.BYTES and self._against:
            coded = self._against.encode(data, dtype, start)
            if coded:
                return coded
        return Coded(self._alone(data, dtype))

    def _alone(self, data: memoryview, dtype: DType) -> codec.Encoded:
        if self._raw_in_a_row % TRIED_WHEN_RAW >= SURE_IT_IS_RAW and dtype is DType.BYTES:
            encoded = codec.Encoded(codec.CodecId.RAW, (data,), data.nbytes)
        else:
            encoded = codec.encode(data, dtype)
        self._raw_in_a_row = self._raw_in_a_row + 1 if encoded.codec == codec.CodecId.RAW else 0
        return encoded


def _may_be_read(attempt: Attempt) -> bool:
    """Whether chunks made for an encoding have room beside its base and what that rests on."""
    made = any(piece.key is None for piece in attempt.bases)
    return not made or sum(len(piece.data) + piece.below for piece in attempt.bases) <= MOST_BASE_BYTES


def _made(data: memoryview) -> Made:
    return Made(blake3(data).digest(), len(data), codec.encode(data, DType.BYTES))
