"""The loops behind deltas, for numba to compile: each a single pass over its words."""

from __future__ import annotations

from typing import Any

from shardflow.loops.compiling import types

# Plain loops over arrays whose sizes the caller has checked. Every number has the type of the words, and a
# multiplication by the sign, 0 or 1, stands for a branch.


def steps(words: Any, starts: Any, low: Any, top: Any, flips: Any, mask: Any, one: Any, out: Any) -> Any:
    for i in range(out.size):
        word, start = words[i] >> low, starts[i] >> low
        way = ((word ^ ((word >> top) * flips)) - (start ^ ((start >> top) * flips))) & mask
        out[i] = ((way << one) & mask) ^ ((way >> top) * mask)
    return out.size


def walked(steps: Any, starts: Any, low: Any, top: Any, flips: Any, mask: Any, one: Any, out: Any) -> Any:
    for i in range(out.size):
        step, start = steps[i], starts[i] >> low
        way = (step >> one) ^ ((step & one) * mask)
        word = ((start ^ ((start >> top) * flips)) + way) & mask
        out[i] = (word ^ ((word >> top) * flips)) << low
    return out.size


# The loops over classes go through both halves at once, each with counters of its own: a processor works on one while
# the other waits for the counter of a class that has just come.


def counts(words: Any, mantissa: Any, exponents: Any, table: Any, lanes: Any) -> Any:
    half = words.size // 2
    classes = types.uint64(lanes.size // 4)
    for i in range(0, half - 1, 2):
        for lane in range(2):
            first = types.uint64(lane) * classes + table[(words[i + lane] >> mantissa) & exponents]
            lanes[first] += 1
            second = types.uint64(2 + lane) * classes + table[(words[half + i + lane] >> mantissa) & exponents]
            lanes[second] += 1
    if half % 2:
        lanes[types.uint64(table[(words[half - 1] >> mantissa) & exponents])] += 1
    for i in range(half + half // 2 * 2, words.size):
        lanes[types.uint64(2) * classes + table[(words[i] >> mantissa) & exponents]] += 1
    return words.size


def by_class(values: Any, words: Any, mantissa: Any, exponents: Any, table: Any, places: Any, out: Any) -> Any:
    half = values.size // 2
    classes = types.uint64(places.size // 2)
    for i in range(half):
        group = types.uint64(table[(words[i] >> mantissa) & exponents])
        place = places[group]
        out[place] = values[i]
        places[group] = place + types.uint64(1)
        group = types.uint64(table[(words[half + i] >> mantissa) & exponents]) + classes
        place = places[group]
        out[place] = values[half + i]
        places[group] = place + types.uint64(1)
    for i in range(2 * half, values.size):
        group = types.uint64(table[(words[i] >> mantissa) & exponents]) + classes
        out[places[group]] = values[i]
    return out.size


def in_place(values: Any, words: Any, mantissa: Any, exponents: Any, table: Any, places: Any, out: Any) -> Any:
    half = out.size // 2
    classes = types.uint64(places.size // 2)
    for i in range(half):
        group = types.uint64(table[(words[i] >> mantissa) & exponents])
        place = places[group]
        out[i] = values[place]
        places[group] = place + types.uint64(1)
        group = types.uint64(table[(words[half + i] >> mantissa) & exponents]) + classes
        place = places[group]
        out[half + i] = values[place]
        places[group] = place + types.uint64(1)
    for i in range(2 * half, out.size):
        group = types.uint64(table[(words[i] >> mantissa) & exponents]) + classes
        out[i] = values[places[group]]
    return out.size


def clip(values: Any, most: Any, out: Any, rest: Any) -> Any:
    beyond = 0
    for i in range(values.size):
        value = values[i]
        rest[beyond] = value - most
        beyond += value >= most
        out[i] = min(value, most)
    return beyond


def unclip(clipped: Any, most: Any, rest: Any, out: Any) -> Any:
    # Without a branch, which no processor could foresee: what is not beyond adds the zero that the rest begins with.
    beyond = 0
    for i in range(out.size):
        is_beyond = types.int64(clipped[i] == most)
        beyond += is_beyond
        out[i] = clipped[i] + rest[beyond * is_beyond]
    return out.size
