"""Which tensor of a newer file was which of an older one: by name, by the end of the name, or by their values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from shardflow.codec.rounding import FLOATS, widened
from shardflow.dtype import DType
from shardflow.layout import Layout, ReadAt, Segment

MOST_LOOKED_AT = 128  # tensors of the older file: each may have to be fetched
ALIKE = 0.5  # correlation: versions of a tensor are far above it, others near zero
_SAMPLE_WORDS = 1024

_Shape = tuple[int, ...]
_Alike = tuple[_Shape, DType | None]
_Samples = dict[int, npt.NDArray[np.float64]]


def pairs(new: Layout, old: Layout, read_new: ReadAt, read_old: ReadAt) -> dict[int, int]:
    """The tensors of `new` that have a counterpart, as indices of segments: that of the newer to that of the older.

    Values are looked at only where names do not tell: fetching them is dear.
    """
    found = _by_name(new, old)
    for more in (_by_ending(new, old, found), _by_values(new, old, found, read_new, read_old)):
        found |= dict(more)
    return found


def _by_name(new: Layout, old: Layout) -> dict[int, int]:
    named = {segment.name: index for index, segment in _tensors(old)}
    return {
        index: named[segment.name]
        for index, segment in _tensors(new)
        if segment.name in named and _grew(segment, old.segments[named[segment.name]])
    }


def _by_ending(new: Layout, old: Layout, found: dict[int, int]) -> Iterator[tuple[int, int]]:
    """Names that something was put before, or taken from: the longest common end that no other tensor has."""
    left_new, left_old = _left(new, old, found)
    by_ending: dict[tuple[_Shape, str], list[int]] = defaultdict(list)
    for index in left_old:
        for ending in _endings(old.segments[index].name):
            by_ending[old.segments[index].shape, ending].append(index)
    claims: dict[int, list[int]] = defaultdict(list)
    for index in left_new:
        segment = new.segments[index]
        for ending in _endings(segment.name):
            candidates = by_ending.get((segment.shape, ending), [])
            if len(candidates) == 1 and _convertible(segment, old.segments[candidates[0]]):
                claims[candidates[0]].append(index)
            if candidates:
                break
    yield from ((claimants[0], index) for index, claimants in claims.items() if len(claimants) == 1)


def _by_values(
    new: Layout, old: Layout, found: dict[int, int], read_new: ReadAt, read_old: ReadAt
) -> Iterator[tuple[int, int]]:
    """Tensors of one shape whose values go together, the most alike first."""
    left_new, left_old = _left(new, old, found)
    alike: dict[_Alike, list[int]] = defaultdict(list)
    for index in left_old:
        alike[_alike(old.segments[index])].append(index)
    wanted: dict[_Alike, list[int]] = defaultdict(list)
    for index in left_new:
        wanted[_alike(new.segments[index])].append(index)
    looked_at = 0
    for kind, indices in wanted.items():
        candidates = alike.get(kind, [])
        looked_at += len(candidates)
        if candidates and looked_at <= MOST_LOOKED_AT:
            yield from _most_alike(_samples(new, indices, read_new), _samples(old, candidates, read_old))


def _alike(segment: Segment) -> _Alike:
    """What two tensors must have in common for their values to be compared."""
    return segment.shape, None if segment.dtype in FLOATS else segment.dtype


def _most_alike(new: _Samples, old: _Samples) -> Iterator[tuple[int, int]]:
    likeness = sorted(((_likeness(n, o), a, b) for a, n in new.items() for b, o in old.items()), reverse=True)
    taken: set[tuple[str, int]] = set()
    for score, a, b in likeness:
        if score < ALIKE:
            return
        if ("new", a) not in taken and ("old", b) not in taken:
            taken |= {("new", a), ("old", b)}
            yield a, b


def _likeness(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """The correlation of two samples; of constant ones, whether they are equal."""
    spread = float(one.std() * other.std())
    if not np.isfinite(spread):
        return 0.0
    if spread == 0:
        return float(np.array_equal(one, other))
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread)


def _samples(layout: Layout, indices: Iterable[int], read_at: ReadAt) -> _Samples:
    """Values from the middle of tensors."""
    samples = {}
    for index in indices:
        segment = layout.segments[index]
        width = segment.dtype.width
        count = min(segment.length // width, _SAMPLE_WORDS)
        first = (segment.length // width - count) // 2
        samples[index] = _values(read_at(segment.offset + first * width, count * width), segment.dtype)
    return samples


def _values(data: bytes, dtype: DType) -> npt.NDArray[np.float64]:
    if dtype in FLOATS:
        with np.errstate(invalid="ignore"):
            return widened(np.frombuffer(data, f"<u{dtype.width}"), dtype).view("<f4").astype(np.float64)
    return np.frombuffer(data, np.uint8).astype(np.float64)


def _left(new: Layout, old: Layout, found: dict[int, int]) -> tuple[list[int], list[int]]:
    """What no pair was found for yet, in both files."""
    taken = set(found.values())
    return (
        [index for index, _ in _tensors(new) if index not in found],
        [index for index, _ in _tensors(old) if index not in taken],
    )


def _tensors(layout: Layout) -> Iterator[tuple[int, Segment]]:
    return ((index, segment) for index, segment in enumerate(layout.segments) if segment.name and segment.length)


def _endings(name: str) -> Iterator[str]:
    """The name, and what is left of it when parts are taken from its front."""
    parts = name.split(".")
    return (".".join(parts[first:]) for first in range(len(parts)))


def _convertible(new: Segment, old: Segment) -> bool:
    return new.dtype is old.dtype or {new.dtype, old.dtype} <= FLOATS


def _grew(new: Segment, old: Segment) -> bool:
    """Whether both are the same tensor as far as shapes tell; it may have got or lost rows."""
    same = len(new.shape) == len(old.shape) and new.shape[1:] == old.shape[1:]
    return same and _convertible(new, old)
