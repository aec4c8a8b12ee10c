"""The loops over byte planes, for numba to compile: one pass for each plane to split, one over all planes to join."""

from __future__ import annotations

from typing import Any

from numpy import uint16, uint32, uint64

# Plain loops over arrays whose sizes the caller has checked. Every number has the type of the words, and a
# multiplication by the sign, 0 or 1, stands for a branch.


def take(words: Any, low: Any, step: Any, mask: Any, top: Any, flips: Any, shift: Any, out: Any) -> Any:
    for i in range(out.size):
        kept = words[i] >> low
        folded = ((kept << step) & mask) ^ (((kept >> top) & step) * flips)
        out[i] = (folded >> shift) & 255
    return out.size


def put2(low: Any, step: Any, flips: Any, out: Any, *planes: Any) -> Any:
    p0, p1 = planes
    for i in range(out.size):
        folded = uint16(p0[i]) | uint16(p1[i]) << 8
        out[i] = ((folded >> step) ^ ((folded & step) * flips)) << low
    return out.size


def put4(low: Any, step: Any, flips: Any, out: Any, *planes: Any) -> Any:
    p0, p1, p2, p3 = planes
    for i in range(out.size):
        folded = uint32(p0[i]) | uint32(p1[i]) << 8 | uint32(p2[i]) << 16 | uint32(p3[i]) << 24
        out[i] = ((folded >> step) ^ ((folded & step) * flips)) << low
    return out.size


def put8(low: Any, step: Any, flips: Any, out: Any, *planes: Any) -> Any:
    p0, p1, p2, p3, p4, p5, p6, p7 = planes
    for i in range(out.size):
        lower = uint32(p0[i]) | uint32(p1[i]) << 8 | uint32(p2[i]) << 16 | uint32(p3[i]) << 24
        upper = uint32(p4[i]) | uint32(p5[i]) << 8 | uint32(p6[i]) << 16 | uint32(p7[i]) << 24
        folded = uint64(lower) | uint64(upper) << uint64(32)
        out[i] = ((folded >> step) ^ ((folded & step) * flips)) << low
    return out.size
