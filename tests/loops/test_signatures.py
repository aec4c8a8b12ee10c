"""A loop sees what its caller gave it; what would lead it astray is refused before."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from shardflow.loops import number, read, written
from shardflow.loops.signatures import Signature, entered


def seen(signature: Signature, *given: object) -> list[int]:
    """The block of words that machine code finds."""
    found: list[int] = []

    @ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.POINTER(ctypes.c_uint64))
    def code(block: object) -> int:
        found.extend(block[at] for at in range(words))  # type: ignore[index]
        return -7

    words = sum(2 if hasattr(kind, "written") else 1 for kind in signature)
    assert entered(ctypes.cast(code, ctypes.c_void_p).value or 0, signature)(*given) == -7
    return found


def test_arrays_come_as_address_and_size_and_numbers_as_they_are() -> None:
    words, out = np.arange(5, dtype="<u2"), np.zeros(3, "u1")
    signature = (read("u2"), number("u2"), written("u1"), number("i8"), number("u8"))
    block = seen(signature, words, 65535, out, -2, np.uint64(2**64 - 1))
    assert block == [words.ctypes.data, 5, 65535, out.ctypes.data, 3, 2**64 - 2, 2**64 - 1]


def test_what_is_only_read_may_be_bytes_at_an_odd_address() -> None:
    words = np.frombuffer(b"x" + bytes(8), "<u4", offset=1)
    assert seen((read("u4"),), words)[1] == 2
    assert seen((read("u1"),), np.empty(0, "u1"))[1] == 0


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        (read("u2"), np.zeros(4, "u1")),
        (read("u2"), np.zeros(4, "<i2")),
        (read("u2"), np.zeros(4, ">u2")),
        (read("u1"), np.zeros(8, "u1")[::2]),
        (written("u1"), np.frombuffer(b"bytes", "u1")),
    ],
)
def test_another_array_than_the_loop_was_compiled_for_is_refused(kind: object, array: np.ndarray) -> None:
    with pytest.raises(TypeError, match="the loop takes"):
        seen((kind,), array)  # type: ignore[arg-type]


def test_more_or_fewer_arguments_are_refused() -> None:
    for given in ((), (1, 2)):
        with pytest.raises(Exception, match=r"expected 1|exactly|items"):
            seen((number("u1"),), *given)
