"""NumPy's files: one array, and archives of arrays, as numpy itself writes them."""

from __future__ import annotations

import io
import struct
import zipfile
from typing import Any

import numpy as np
import pytest

from layout.listing import layout_of, tensors_in
from shardflow.dtype import DType


def npy_of(array: Any) -> bytes:
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()


def npz_of(compressed: bool = False, **arrays: Any) -> bytes:
    held = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(held, **arrays)
    return held.getvalue()


def with_header(header: str, body: bytes, version: int = 1) -> bytes:
    encoded = header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(encoded))
    return b"\x93NUMPY" + bytes([version, 0]) + length + encoded + body


@pytest.mark.parametrize(
    ("numpy_name", "dtype"),
    [
        ("f8", DType.F64),
        ("f4", DType.F32),
        ("f2", DType.F16),
        ("i8", DType.I64),
        ("i1", DType.I8),
        ("u2", DType.U16),
        ("?", DType.BOOL),
        ("c8", DType.C64),
        ("c16", DType.C128),
    ],
)
def test_an_array_is_one_segment_after_its_header(numpy_name: str, dtype: DType) -> None:
    array = np.ones((2, 3), numpy_name)
    data = npy_of(array)
    assert layout_of(data).kind == "npy"
    assert tensors_in(data) == [("array", dtype, (2, 3), array.tobytes())]


@pytest.mark.parametrize(
    "array", [np.ones((2, 3), ">f4"), np.array(["ab", "c"]), np.array([b"abc"]), np.ones(3, "M8[s]")]
)
def test_what_no_codec_knows_is_a_named_run_of_bytes(array: Any) -> None:
    expected = [] if array.dtype.kind == "M" else [("array", DType.BYTES, array.shape, array.tobytes())]
    assert tensors_in(npy_of(array)) == expected


def test_an_array_in_fortran_order_has_its_shape_in_memory() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert tensors_in(npy_of(array)) == [("array", DType.F32, (3, 2), array.T.tobytes())]
    assert layout_of(npy_of(array)).fingerprint == layout_of(npy_of(np.ascontiguousarray(array))).fingerprint


def test_bfloat16_is_known_by_the_void_type_it_is_saved_as() -> None:
    data = with_header("{'descr': '<V2', 'fortran_order': False, 'shape': (2,), }\n", b"abcd")
    assert tensors_in(data) == [("array", DType.BF16, (2,), b"abcd")]


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_the_header_is_read(version: int) -> None:
    data = with_header("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 1), }\n", b"abcd", version)
    assert tensors_in(data) == [("array", DType.U16, (2, 1), b"abcd")]


@pytest.mark.parametrize("array", [np.array(5.0), np.ones((0, 3))])
def test_scalars_and_empty_arrays_are_fine(array: Any) -> None:
    layout = layout_of(npy_of(array))
    assert layout.kind == "npy"
    assert layout.fingerprint is not None


def test_what_follows_the_array_is_plain() -> None:
    data = npy_of(np.arange(3, dtype=np.uint8)) + b"more"
    assert [(at.name, at.length) for at in layout_of(data).segments][1:] == [("array", 3), ("", 4)]


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (9,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "4294967296," * 20 + "), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False}",
        "(" * 5000,
        "__import__('os')",
        "",
    ],
)
def test_a_header_that_lies_or_computes_makes_the_file_plain(header: str) -> None:
    assert layout_of(with_header(header, bytes(8))).kind == "plain"


def test_a_header_longer_than_numpy_would_read_is_plain() -> None:
    header = "{'descr': '<u1', 'fortran_order': False, 'shape': (1,), }".ljust(20_000)
    assert layout_of(with_header(header, b"a")).kind == "plain"


def test_an_npz_lists_its_arrays_by_their_names() -> None:
    first, second = np.ones((2, 2), np.float32), np.arange(3)
    data = npz_of(**{"layer/weight": first, "ids": second})
    assert layout_of(data).kind == "npz"
    assert tensors_in(data) == [
        ("layer/weight", DType.F32, (2, 2), first.tobytes()),
        ("ids", DType.I64, (3,), second.tobytes()),
    ]


def test_a_compressed_npz_is_plain_because_nothing_is_unpacked() -> None:
    assert layout_of(npz_of(compressed=True, zeros=np.zeros(10_000_000))).kind == "plain"


def test_members_that_are_no_plain_arrays_stay_bytes() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as target:
        target.writestr("good.npy", npy_of(np.ones(2, np.uint8)))
        target.writestr("objects.npy", npy_of(np.array([{}], object)))
        target.writestr("short.npy", b"\x93NUM")
        target.writestr("notes.txt", b"text")
    assert [name for name, *_ in tensors_in(held.getvalue())] == ["good"]


def test_any_other_zip_is_plain() -> None:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as target:
        target.writestr("notes.txt", b"text")
    assert layout_of(held.getvalue()).kind == "plain"
