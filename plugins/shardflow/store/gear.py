"""Cut files without known structure where their content says so: an insertion moves a few chunks, not all of them.

The rule, so that other programs can make the same cuts (all arithmetic modulo 2**64):

- `table[b]` is the first eight bytes, little-endian, of BLAKE3(b"shardflow gear 1" + the byte b).
- The hash at offset e covers the 64 bytes before e: the sum of `table[data[e-1-k]] << k` for k in 0..63, which is what
  `h = (h << 1) + table[byte]` holds after those bytes, whatever came before them.
- A chunk that began at p ends at the first e where e-p >= minimum and the hash is below a bound, or else at
  e-p = maximum. With L = mean - minimum the bound is 2**64*25//(72*L) while e-p < minimum + 2*L//5, and four times as
  easy, 2**64*25//(18*L), from there on. These ratios make the expected size `mean` (but for what `maximum` cuts off).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3

from shardflow.loops import Loops, LoopSet, Signature, number, read, written
from shardflow.store.gear_loop import WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from numpy.typing import NDArray
    from typing_extensions import Buffer

    Bytes = NDArray[np.uint8]
    Words = NDArray[np.uint64]
    Offsets = NDArray[np.int64]
    Scan: TypeAlias = Callable[[Bytes, Words, int, int, int, np.uint64, np.uint64, Offsets], int]

# The sizes for a store. A 2 MiB change in a 200 MiB file costs 0.25 MiB beyond itself: 0.18 in chunks that it touches,
# 0.07 in manifest entries. That sum hardly moves between means of 80 and 128 KiB, and fewer chunks suit large files.
MINIMUM = 32 << 10
MEAN = 128 << 10
MAXIMUM = 512 << 10

_WORTH_LOADING = 12 << 20  # what numpy cuts in the time that it takes to load the compiled loop
_BLOCK = 32 << 10  # positions the numpy twin hashes at once: its arrays stay in the processor's cache


class Gear:
    """One set of sizes, ready to cut; holds no state between calls, so threads may share it."""

    def __init__(self, minimum: int = MINIMUM, mean: int = MEAN, maximum: int = MAXIMUM) -> None:
        if not (minimum >= WINDOW and mean >= minimum + WINDOW and maximum > mean):
            raise ValueError(f"chunk sizes must rise by {WINDOW} bytes at least: got {minimum}, {mean}, {maximum}")
        self.minimum, self.mean, self.maximum = minimum, mean, maximum
        spread = mean - minimum
        self._normal = minimum + spread * 2 // 5
        self._strict = np.uint64((25 << 64) // (72 * spread))
        self._easy = np.uint64((25 << 64) // (18 * spread))

    def expect(self, size: int) -> None:
        """Make ready what cuts so many bytes fastest."""
        _scans.expect(size)

    def cuts(self, data: Buffer, final: bool) -> list[int]:
        """The ends of all complete chunks in `data`, which starts at a chunk border.

        What follows the last cut belongs in front of the next data; with `final` the last cut is the end of the data.
        """
        view = np.frombuffer(memoryview(data), np.uint8)
        ends = np.empty(view.size // self.minimum + 1, np.int64)
        scan = _scans.serving(view.size)
        count = scan(view, table(), self.minimum, self._normal, self.maximum, self._strict, self._easy, ends)
        found: list[int] = ends[:count].tolist()
        if final and view.size > (found[-1] if found else 0):
            found.append(view.size)
        return found


@cache
def table() -> Words:
    """The random word that each byte value adds to the hash."""
    words = [blake3(b"shardflow gear 1" + bytes([value])).digest(8) for value in range(256)]
    made = np.frombuffer(b"".join(words), "<u8").astype(np.uint64)
    made.flags.writeable = False
    return made


def _compiled() -> Scan:
    scan: Scan = LoopSet("shardflow.store.gear_loop", {"scan": _scanning}).loop("scan", 1)
    return scan


def _scanning(byte: str) -> Signature:
    sizes, bounds = [number("i8")] * 3, [number("u8")] * 2
    return (read(byte), read("u8"), *sizes, *bounds, written("i8"))


def _scan_numpy(
    data: Bytes,
    words: Words,
    minimum: int,
    normal: int,
    maximum: int,
    strict: np.uint64,
    easy: np.uint64,
    ends: Offsets,
) -> int:
    """The same cuts as the loop in gear_loop.py without a compiler, at an eighth of the speed."""
    count = 0
    start = 0
    while data.size - start >= minimum:
        stop = min(start + maximum, data.size)
        hit = _first_hit(data, words, start + minimum, min(start + normal - 1, stop), strict)
        hit = hit or _first_hit(data, words, start + normal, stop, easy)
        if not hit and stop < start + maximum:
            break
        start = hit or stop
        ends[count] = start
        count += 1
    return count


def _first_hit(data: Bytes, words: Words, first: int, last: int, bound: np.uint64) -> int:
    """The first offset from `first` to `last`, both included, whose hash is below `bound`; 0 if there is none."""
    for low in range(first, last + 1, _BLOCK):
        high = min(low + _BLOCK - 1, last)
        hits = np.flatnonzero(_hashes(words[data[low - WINDOW : high]]) < bound)
        if hits.size:
            return low + int(hits[0])
    return 0


def _hashes(terms: Words) -> Words:
    """The hash at every offset that has a whole window of terms before it, by doubling the window from 1 to 64."""
    width = 1
    while width < WINDOW:
        terms = terms[width:] + (terms[:-width] << np.uint64(width))
        width *= 2
    return terms


_scans: Loops[Scan] = Loops(_scan_numpy, _compiled, worth=_WORTH_LOADING)
