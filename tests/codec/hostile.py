"""What the tests of hostile encodings have in common: damaged or made-up bytes are refused or fill their target."""

from __future__ import annotations

from hypothesis import strategies as st

from codec.cases import KERNELS, noise, using
from shardflow.codec import CodecId, decode
from shardflow.codec.numbers import EVERY_NUMBER
from shardflow.errors import CorruptData

BASE = noise(4000)
NUMBERS = sorted((number.width, number.mantissa) for number in EVERY_NUMBER)

run = st.one_of(
    st.tuples(st.integers(0, 5), st.binary(min_size=1, max_size=1)),
    st.tuples(st.integers(64, 69), st.binary(max_size=40)),
    st.tuples(st.integers(192, 197), st.binary(max_size=12)),
)


def attempt(codec: CodecId, stored: bytes, size: int, bases: list[bytes]) -> bytes | None:
    """What decoding gives, or None where it says that the data are corrupt; anything else fails the test."""
    room = bytearray(b"\xa5" * (size + 16))
    try:
        decode(codec, stored, memoryview(room)[8 : 8 + size], bases)
    except CorruptData:
        return None
    finally:
        assert room[:8] == room[8 + size :] == b"\xa5" * 8
    return bytes(room[8 : 8 + size])


def by_both_sets(codec: CodecId, stored: bytes, size: int, bases: list[bytes]) -> bytes | None:
    """The same with each set of kernels, which must agree."""
    results = []
    for kernels in KERNELS:
        with using(kernels):
            results.append(attempt(codec, stored, size, bases))
    assert results[0] == results[1]
    return results[0]


def damaged(data: st.DataObject, stored: bytes) -> bytes:
    """An encoding with a few bytes changed, cut out, put in or copied; most often near its head, where it says most."""
    spoilt = bytearray(stored)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, min(len(spoilt) - 1, 90) if data.draw(st.booleans()) else len(spoilt) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert", "copy"]))
        if kind == "set":
            spoilt[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del spoilt[at : at + data.draw(st.integers(1, 40))]
        elif kind == "insert":
            spoilt[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        else:
            spoilt[at : at + 16] = spoilt[:16]
        if not spoilt:
            break
    return bytes(spoilt)
