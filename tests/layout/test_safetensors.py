"""Safetensors: the listing of a file as its own library writes it, and plain bytes for a header that lies."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from layout.listing import layout_of, tensors_in
from shardflow.dtype import DType
from shardflow.layout.safetensors import LARGEST_HEADER
from timing import worked


def file_of(header: Any, content: bytes = b"") -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + content


def entry(begin: int, end: int, dtype: str = "U8", shape: list[Any] | None = None) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [end - begin] if shape is None else shape, "data_offsets": [begin, end]}


def test_a_file_of_the_library_is_listed_exactly() -> None:
    arrays = {
        "layer.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "layer.bias": np.arange(3, dtype=np.float16),
        "counts": np.arange(4, dtype=np.int64),
        "mask": np.array([True, False]),
        "step": np.array(7, np.uint32),
    }
    data = save(arrays, {"format": "pt"})
    layout = layout_of(data)
    assert layout.kind == "safetensors"
    assert layout.segments[0].name == ""
    assert sorted(tensors_in(data)) == [
        ("counts", DType.I64, (4,), arrays["counts"].tobytes()),
        ("layer.bias", DType.F16, (3,), arrays["layer.bias"].tobytes()),
        ("layer.weight", DType.F32, (2, 3), arrays["layer.weight"].tobytes()),
        ("mask", DType.BOOL, (2,), b"\x01\x00"),
        ("step", DType.U32, (), arrays["step"].tobytes()),
    ]


@pytest.mark.parametrize(
    ("code", "dtype"),
    [("BF16", DType.BF16), ("F8_E4M3", DType.F8_E4M3), ("F8_E5M2", DType.F8_E5M2), ("C64", DType.C64)],
)
def test_types_that_numpy_lacks_are_known(code: str, dtype: DType) -> None:
    data = file_of({"w": entry(0, 2 * dtype.width, code, [2])}, bytes(2 * dtype.width))
    assert tensors_in(data) == [("w", dtype, (2,), bytes(2 * dtype.width))]


@pytest.mark.parametrize("code", ["F4", "F6_E2M3", "F8_E8M0", "not there yet"])
def test_types_unknown_here_stay_bytes_with_name_and_shape(code: str) -> None:
    assert tensors_in(file_of({"w": entry(0, 8, code, [4, 4])}, bytes(8))) == [("w", DType.BYTES, (4, 4), bytes(8))]


def test_tensors_are_in_the_order_of_the_file_not_of_the_header() -> None:
    data = file_of({"b": entry(2, 4), "a": entry(0, 2)}, b"abcd")
    assert [name for name, *_ in tensors_in(data)] == ["a", "b"]


def test_padding_belongs_to_the_header() -> None:
    data = file_of(json.dumps({"w": entry(0, 2)}).encode().ljust(96), b"ab")
    assert [(at.offset, at.length) for at in layout_of(data).segments] == [(0, 104), (104, 2)]


def test_no_tensors_and_only_metadata_is_still_the_format() -> None:
    layout = layout_of(file_of({"__metadata__": {"dtype": "F32", "shape": "x"}}))
    assert (layout.kind, layout.fingerprint, len(layout.segments)) == ("safetensors", None, 1)


def test_an_empty_tensor_has_no_segment() -> None:
    data = file_of({"none": entry(2, 2, "F32", [0, 7]), "w": entry(0, 2)}, b"ab")
    assert [name for name, *_ in tensors_in(data)] == ["w"]


@pytest.mark.parametrize(
    "header",
    [
        {"a": entry(0, 4), "b": entry(2, 4)},
        {"a": entry(0, 2)},
        {"a": entry(0, 6)},
        {"a": entry(-2, 4)},
        {"a": entry(4, 0)},
        {"a": entry(0, 4, "F32", [2])},
        {"a": entry(0, 4, "U8", [-2, -2])},
        {"a": entry(0, 4, "U8", [2**32, 2**32])},
        {"a": entry(0, 4, "U8", [4] + [1] * 64)},
        {"a": entry(0, 4, "U8", [4.0])},
        {"a": entry(0, 4, "U8", ["4"])},
        {"a": entry(2**63, 2**63 + 4)},
        {"a": {"dtype": "U8", "shape": [4]}},
        {"a": [0, 4]},
        {"a": 4},
        {"": entry(0, 4)},
        [entry(0, 4)],
        b"{",
        b"{}}",
        b'{"a":' + b"[" * 100_000,
        b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}',
        b'{"\xff":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        b'{"\\ud800":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,' + b"9" * 10_000 + b"]}}",
    ],
    ids=lambda header: repr(header)[:60],
)
def test_a_header_that_lies_makes_the_file_plain(header: Any) -> None:
    assert layout_of(file_of(header, b"abcd")).kind == "plain"


@pytest.mark.parametrize("length", [0, 1, 10**6, LARGEST_HEADER + 1, 2**63, 2**64 - 1])
def test_a_length_that_lies_makes_the_file_plain(length: int) -> None:
    good = file_of({"w": entry(0, 4)}, b"abcd")
    assert layout_of(struct.pack("<Q", length) + good[8:]).kind == "plain"


def test_a_header_of_a_hundred_megabytes_is_not_even_read() -> None:
    from shardflow.layout import inspect

    size = 8 + (100 << 20) + 4
    asked = []

    def read_at(offset: int, length: int) -> bytes:
        asked.append(length)
        return (struct.pack("<Q", 100 << 20) + b'{"w":')[offset : offset + length].ljust(length)

    assert inspect(read_at, size).kind == "plain"
    assert sum(asked) < 1000


def test_a_million_made_up_keys_are_refused_before_they_are_parsed() -> None:
    keys = b",".join(b'"%d":0' % index for index in range(1_400_000))
    assert layout_of(file_of(b"{" + keys + b"}")).kind == "plain"


def test_ten_thousand_tensors_are_listed_in_well_under_a_second() -> None:
    header = {f"model.layers.{i}.mlp.experts.weight": entry(64 * i, 64 * i + 64, "BF16", [4, 8]) for i in range(10_000)}
    data = file_of(header, bytes(640_000))
    assert worked(lambda: layout_of(data)) < 1
    assert len(layout_of(data).segments) == 10_001
