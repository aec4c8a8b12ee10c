"""GGUF: tensors found behind metadata of any length, quantised blocks by their true size."""

from __future__ import annotations

import struct

import pytest

from layout.gguf_files import METADATA, Kept, gguf_of, number, string, words
from layout.listing import layout_of, tensors_in
from shardflow.dtype import DType


def one(kind: int, shape: tuple[int, ...], content: bytes) -> bytes:
    return gguf_of([Kept("w", shape, kind, content)])


@pytest.mark.parametrize("version", [2, 3])
def test_tensors_are_listed_with_their_slowest_dimension_first(version: int) -> None:
    tensors = [
        Kept("token_embd.weight", (3, 2), 0, bytes(range(24))),
        Kept("output_norm.weight", (5,), 1, b"0123456789"),
    ]
    data = gguf_of(tensors, version=version)
    assert layout_of(data).kind == "gguf"
    assert tensors_in(data) == [
        ("token_embd.weight", DType.F32, (2, 3), bytes(range(24))),
        ("output_norm.weight", DType.F16, (5,), b"0123456789"),
    ]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(24, DType.I8), (25, DType.I16), (26, DType.I32), (27, DType.I64), (28, DType.F64), (30, DType.BF16)],
)
def test_plain_element_types_are_known(kind: int, dtype: DType) -> None:
    content = bytes(4 * dtype.width)
    assert tensors_in(one(kind, (2, 2), content)) == [("w", dtype, (2, 2), content)]


@pytest.mark.parametrize(
    ("kind", "block", "width"), [(2, 32, 18), (8, 32, 34), (12, 256, 144), (14, 256, 210), (39, 32, 17), (40, 64, 36)]
)
def test_quantised_blocks_are_bytes_of_their_true_length(kind: int, block: int, width: int) -> None:
    content = bytes(6 * width)
    assert tensors_in(one(kind, (2 * block, 3), content)) == [("w", DType.BYTES, (3, 2 * block), content)]


def test_a_block_type_from_the_future_reaches_to_the_next_tensor() -> None:
    data = gguf_of([Kept("new", (64,), 99, bytes(64)), Kept("old", (4,), 24, b"abcd")])
    assert tensors_in(data) == [("new", DType.BYTES, (64,), bytes(64)), ("old", DType.I8, (4,), b"abcd")]


def test_the_file_may_choose_its_own_alignment() -> None:
    tensors = [Kept("a", (3,), 24, b"abc"), Kept("b", (3,), 24, b"def")]
    data = gguf_of(tensors, (*METADATA, number("general.alignment", 256)), alignment=256)
    assert [at.offset % 256 for at in layout_of(data).segments if at.name] == [0, 0]
    assert [content for *_, content in tensors_in(data)] == [b"abc", b"def"]


def test_a_vocabulary_longer_than_the_first_read_is_walked_over() -> None:
    vocabulary = words("tokenizer.ggml.tokens", [f"{i:060}" for i in range(30_000)])
    assert [name for name, *_ in tensors_in(gguf_of([Kept("w", (4,), 24, b"abcd")], (vocabulary,)))] == ["w"]


@pytest.mark.parametrize(
    "data",
    [
        gguf_of([Kept("w", (4,), 24, b"abcd")], version=1),
        gguf_of([Kept("w", (4,), 24, b"abcd")], version=3 << 24),
        gguf_of([Kept("w", (4,), 24, b"abcd")], claims=(2**63, 6)),
        gguf_of([Kept("w", (4,), 24, b"abcd")], claims=(1, 2**63)),
        gguf_of([Kept("w", (4,), 24, b"abcd")], claims=(2, 6)),
        gguf_of([Kept("w", (4,), 24, b"abcd", offset=2**63)]),
        gguf_of([Kept("w", (400,), 24, b"abcd")]),
        gguf_of([Kept("w", (2**40, 2**40), 0, b"abcd")]),
        gguf_of([Kept("w", (2**63,), 0, b"abcd")]),
        gguf_of([Kept("w", (33,), 2, bytes(36))]),
        gguf_of([Kept("w", (1,) * 9, 24, b"a")]),
        gguf_of([Kept("", (4,), 24, b"abcd")]),
        gguf_of([Kept("a", (4,), 24, b"abcd"), Kept("a", (4,), 24, b"abcd")]),
        gguf_of([Kept("a", (4,), 24, b"abcd"), Kept("b", (4,), 24, b"abcd", offset=2)]),
        gguf_of([Kept("w", (4,), 24, b"abcd")], (number("general.alignment", 0),)),
        gguf_of([], (string("k") + struct.pack("<I", 13),)),
        gguf_of([], (string("k") + struct.pack("<IIQ", 9, 8, 2**62),)),
        gguf_of([], (string("k") + struct.pack("<IIQ", 9, 6, 2**62),)),
        gguf_of([], (string("k") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 1000,)),
        gguf_of([], (struct.pack("<Q", 2**64 - 1) + b"key",)),
        gguf_of([], (string(b"\xff") + struct.pack("<IB", 7, 1),)),
        b"GGUF",
    ],
)
def test_a_header_that_lies_makes_the_file_plain(data: bytes) -> None:
    assert layout_of(data).kind == "plain"
