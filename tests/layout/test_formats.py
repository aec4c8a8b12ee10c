"""Formats are told by content, and whatever happened to a file, looking at it ends with a layout of all its bytes."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from layout.gguf_files import Kept, gguf_of
from layout.listing import layout_of, reader_of
from layout.torch_files import Storage, View, checkpoint
from shardflow.layout import inspect

DATA = Path(__file__).parent / "data"


def saved(write: object, *args: object, **arrays: object) -> bytes:
    held = io.BytesIO()
    write(held, *args, **arrays)  # type: ignore[operator]
    return held.getvalue()


WHOLE = {
    "safetensors": save({"a.weight": np.ones((2, 3), np.float32), "b": np.ones(4, np.int8)}, {"format": "pt"}),
    "npy": saved(np.save, np.ones((3, 4), np.float16)),
    "npz": saved(np.savez, first=np.ones((2, 2)), second=np.arange(3)),
    "gguf": gguf_of([Kept("a", (32, 2), 8, bytes(68)), Kept("b", (3,), 0, bytes(12))]),
    "torch": checkpoint(
        {"w": View(Storage("0", elements=6), (2, 3)), "v": View(Storage("1", "HalfStorage", 2), (2,), dtype="float16")},
        {"0": bytes(24), "1": bytes(4)},
    ),
}
SAMPLES = [*WHOLE.values(), *(path.read_bytes() for path in sorted(DATA.glob("*.pt")))]
NASTY = [
    *(struct.pack("<Q", value) for value in (0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)),
    *(struct.pack("<I", value) for value in (0, 1, 2**31, 2**32 - 1)),
    b"\xff\xff",
    b"9" * 30,
    b"-1",
    b"[" * 30,
    b"}",
    b"R",
    b"(",
    b"b",
    b"h\x00",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good file with some bytes replaced, removed or added, or with its end missing."""
    data = bytearray(draw(st.sampled_from(SAMPLES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(("replace", "replace", "insert", "remove", "cut", "flip")))
        value = draw(st.sampled_from(NASTY) | st.binary(min_size=1, max_size=8))
        if kind == "replace":
            data[at : at + len(value)] = value
        elif kind == "insert":
            data[at:at] = value
        elif kind == "remove":
            del data[at : at + len(value)]
        elif kind == "cut":
            del data[at:]
        elif at < len(data):
            data[at] ^= 1 << draw(st.integers(0, 7))
    return bytes(data)


@settings(max_examples=2000, deadline=None)
@given(data=damaged())
def test_damaged_files_always_have_a_layout_of_all_their_bytes(data: bytes) -> None:
    layout_of(data)


@settings(max_examples=300, deadline=None)
@given(
    magic=st.sampled_from(
        [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"GGUF\x03\x00\x00\x00", b"\x10" + bytes(7) + b"{"]
    ),
    rest=st.binary(max_size=300),
)
def test_any_bytes_after_a_magic_number_have_a_layout(magic: bytes, rest: bytes) -> None:
    layout_of(magic + rest)


@pytest.mark.parametrize("kind", WHOLE)
def test_every_shorter_version_of_a_file_has_a_layout(kind: str) -> None:
    data = WHOLE[kind]
    for size in range(0, len(data), 1 + len(data) // 400):
        layout_of(data[:size])


@pytest.mark.parametrize("kind", WHOLE)
def test_the_kind_is_told_by_content(kind: str) -> None:
    assert layout_of(WHOLE[kind]).kind == kind


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_whose_end_is_missing_is_plain(kind: str) -> None:
    assert layout_of(WHOLE[kind][:-30]).kind == "plain"


@pytest.mark.parametrize("data", [b"", b"P", b"PK", b"{}", b"text", bytes(100), b"\x80\x02]." * 9])
def test_everything_else_is_plain(data: bytes) -> None:
    layout = layout_of(data)
    assert (layout.kind, layout.fingerprint) == ("plain", None)
    assert len(layout.segments) == bool(data)


def test_failures_of_reading_are_not_taken_for_damage() -> None:
    def read_at(offset: int, length: int) -> bytes:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        inspect(read_at, 100)


def test_a_file_that_ends_early_while_it_is_read_is_plain() -> None:
    data = WHOLE["safetensors"]
    assert inspect(lambda offset, length: data[offset : offset + length][:20], len(data)).kind == "plain"


@pytest.mark.parametrize(
    "data",
    [
        save({"w": np.zeros(1 << 20)}),
        saved(np.save, np.zeros(1 << 20)),
        saved(np.savez, w=np.zeros(1 << 20)),
        gguf_of([Kept("w", (8 << 20,), 24, bytes(8 << 20))]),
        checkpoint({"w": View(Storage("0", elements=2 << 20), (2 << 20,))}, {"0": bytes(8 << 20)}),
    ],
    ids=WHOLE,
)
def test_only_headers_are_read_however_large_the_tensors(data: bytes) -> None:
    asked: list[int] = []
    read_at = reader_of(data)

    def counting(offset: int, length: int) -> bytes:
        asked.append(length)
        return read_at(offset, length)

    assert inspect(counting, len(data)).kind != "plain"
    assert sum(asked) <= (1 << 20) + 100
