"""Two thin matrices of integers whose product tells how a large matrix was changed, and the chunks they are kept in.

Whole numbers below 2**53 are exact in float64, so their product is the same whatever machine, library or number of
threads computes it, and in whatever order. Floating-point factors would not do: their sums depend on all of these.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shardflow.codec import stages
from shardflow.codec.encoded import flat
from shardflow.codec.kernels import step_kernels_for
from shardflow.codec.runs import RunReader, RunWriter
from shardflow.codec.tails import KINDS, Tail, kinds_of
from shardflow.errors import CorruptData

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

MOST_RANK = 256  # of factors in one chunk
EXPONENTS = range(-400, 200)
EXACT = 2.0**53  # what no sum of products may reach

_MOST_NUMBERS = 1 << 22  # in one chunk
_CHUNK = 4 << 20
_VERSION = 1
_HEADER = struct.Struct("<BHIIH")  # version, rank, rows, columns, groups

Integers = npt.NDArray[np.int32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """A change of a matrix: the sum over k of `left[k]` times `right[k]`, an outer product, times 2**`exponents[k]`."""

    left: Integers  # rank, rows
    right: Integers  # rank, columns
    exponents: tuple[int, ...]

    @property
    def rank(self) -> int:
        return len(self.exponents)

    @property
    def rows(self) -> int:
        return len(self.left[0])

    @property
    def columns(self) -> int:
        return len(self.right[0])

    def as_doubles(self) -> tuple[Doubles, Doubles]:
        """Rows by rank and rank by columns; their product is exact, in units of two to the lowest exponent."""
        shifts = np.array(self.exponents) - min(self.exponents)
        return np.ldexp(self.left.T.astype(np.float64), shifts), self.right.astype(np.float64)


def wrong_with(factors: Factors) -> str:
    """What keeps these factors from being multiplied exactly, if anything."""
    if not all(exponent in EXPONENTS for exponent in factors.exponents):
        return f"factors have exponents from {min(factors.exponents)} to {max(factors.exponents)}"
    bound = largest_sum(factors)
    return f"products of factors may add up to {bound:.4g}, which is not exact" if bound >= EXACT else ""


def largest_sum(factors: Factors) -> float:
    """What no sum of products exceeds, nor any part of it (Cauchy and Schwarz), in units of the lowest exponent."""
    scale = np.exp2(np.array(factors.exponents) - min(factors.exponents))
    squares = [float((scale @ side.astype(np.float64) ** 2).max()) for side in (factors.left, factors.right)]
    return math.sqrt(squares[0] * squares[1])


def joined(several: Sequence[Factors]) -> Factors:
    """One change that is the sum of several changes of the same matrix."""
    if len({(each.rows, each.columns) for each in several}) != 1:
        raise ValueError(f"factors for {[(each.rows, each.columns) for each in several]} do not go together")
    left, right = (np.concatenate(sides) for sides in zip(*((each.left, each.right) for each in several), strict=True))
    return Factors(left, right, tuple(exponent for each in several for exponent in each.exponents))


def factor_chunks(factors: Factors, limit: int = _CHUNK) -> list[bytes]:
    """The chunks to store factors in: one, unless it became larger than `limit`. Together they are bases of a merge."""
    wrong = wrong_with(factors)
    if wrong:
        raise ValueError(wrong)
    most = min(MOST_RANK, _MOST_NUMBERS // (factors.rows + factors.columns))
    if factors.rank <= most:
        chunk = _chunk(factors)
        if len(chunk) <= limit or factors.rank == 1:
            return [chunk]
    half = factors.rank // 2
    halves = (slice(half), slice(half, None))
    parts = [Factors(factors.left[part], factors.right[part], factors.exponents[part]) for part in halves]
    return [chunk for part in parts for chunk in factor_chunks(part, limit)]


def _chunk(factors: Factors) -> bytes:
    groups = _groups(factors)
    writer = RunWriter(memoryview(bytearray(10 * (factors.left.size + factors.right.size) + 4096)))
    writer.put(_HEADER.pack(_VERSION, factors.rank, factors.rows, factors.columns, len(groups)))
    writer.put(struct.pack(f"<{factors.rank}h", *factors.exponents))
    writer.put(struct.pack(f"<{len(groups)}H", *(part.stop - part.start for part in groups)))
    for part in groups:
        numbers = np.concatenate([factors.left[part].ravel(), factors.right[part].ravel()])
        values = ((numbers << 1) ^ (numbers >> 31)).view("<u4")
        tail = Tail(np.bincount(kinds_of(values), minlength=KINDS).tolist())
        stages.write_values(values, stages.plan(tail, 4), step_kernels_for(values.nbytes), writer)
    return bytes(writer.written)


def _groups(factors: Factors) -> list[slice]:
    """Parts of the rank whose numbers are of about the same size, so that they are stored well together."""
    sizes = [np.abs(side).mean(axis=1) for side in (factors.left, factors.right)]
    bits = np.round(np.log2(np.maximum(sum(sizes), 1e-9)))
    cuts = [0, *(np.flatnonzero(np.diff(bits)) + 1).tolist(), factors.rank]
    return [slice(begin, end) for begin, end in pairwise(cuts)]


def read_factors(chunk: Buffer) -> Factors:
    """The factors in a chunk, checked."""
    reader = RunReader(flat(chunk))
    version, rank, rows, columns, count = _HEADER.unpack(reader.take(_HEADER.size))
    if version != _VERSION:
        raise CorruptData(f"factors of version {version} are not known here")
    if not 0 < rank <= MOST_RANK or not rows or not columns or rank * (rows + columns) > _MOST_NUMBERS:
        raise CorruptData(f"factors of rank {rank} for {rows} rows and {columns} columns cannot be")
    exponents = struct.unpack(f"<{rank}h", reader.take(2 * rank))
    groups = struct.unpack(f"<{count}H", reader.take(2 * count))
    if 0 in groups or sum(groups) != rank:
        raise CorruptData(f"factors in groups of {groups} are not of rank {rank}")
    numbers = [_read(reader, group, rows, columns) for group in groups]
    if reader.rest():
        raise CorruptData("bytes lie behind the last factor")
    left, right = (np.concatenate(side) for side in zip(*numbers, strict=True))
    return Factors(left, right, exponents)


def _read(reader: RunReader, rank: int, rows: int, columns: int) -> tuple[Integers, Integers]:
    values = np.empty(rank * (rows + columns), "<u4")
    stages.read_values(reader, step_kernels_for(values.nbytes), values)
    numbers = (values >> 1).view(np.int32) ^ -(values & 1).view(np.int32)
    return numbers[: rank * rows].reshape(rank, rows), numbers[rank * rows :].reshape(rank, columns)
