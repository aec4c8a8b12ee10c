"""The loop that cuts by content, for numba to compile."""

from __future__ import annotations

from typing import Any

import numpy as np

WINDOW = 64  # bytes that one hash covers: a 64-bit word shifted once a byte has forgotten everything older


def scan(data: Any, words: Any, minimum: Any, normal: Any, maximum: Any, strict: Any, easy: Any, ends: Any) -> Any:
    """Fill `ends` and return how many; in the shape that numba turns into about a byte a cycle (slices, no indices)."""
    one = np.uint64(1)
    count = 0
    start = 0
    while data.size - start >= minimum:
        end = start + minimum
        held = np.uint64(0)
        for byte in data[end - WINDOW : end]:
            held = (held << one) + words[byte]
        stop = min(start + maximum, data.size)
        turn = min(start + normal - 1, stop)
        found = bool(held < strict)
        if not found:
            for byte in data[end:turn]:
                held = (held << one) + words[byte]
                end += 1
                if held < strict:
                    found = True
                    break
        if not found:
            for byte in data[end:stop]:
                held = (held << one) + words[byte]
                end += 1
                if held < easy:
                    found = True
                    break
        if not found and end < start + maximum:
            break  # this chunk goes on in data yet to come
        ends[count] = end
        count += 1
        start = end
    return count
