"""Data that encodings meet: numbers as training leaves them, odd bit patterns, and both kernel sets to run them."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import Encoded, decode, encode
from shardflow.dtype import DType

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

KERNELS = ("numpy", "numba")
EVERY_DTYPE = tuple(DType)

_NATIVE = {
    DType.F64: "<f8",
    DType.F32: "<f4",
    DType.F16: "<f2",
    DType.I64: "<i8",
    DType.I32: "<i4",
    DType.I16: "<i2",
    DType.I8: "<i1",
    DType.U64: "<u8",
    DType.U32: "<u4",
    DType.U16: "<u2",
    DType.U8: "<u1",
}


@contextmanager
def using(kernels: str) -> Iterator[None]:
    """Every encode and decode inside runs on this kernel set, whatever its size."""
    before = os.environ.get("SHARDFLOW_KERNELS")
    os.environ["SHARDFLOW_KERNELS"] = kernels
    try:
        yield
    finally:
        os.environ.pop("SHARDFLOW_KERNELS")
        if before is not None:
            os.environ["SHARDFLOW_KERNELS"] = before


def joined(encoded: Encoded) -> bytes:
    stored = b"".join(encoded.parts)
    assert len(stored) == encoded.size
    return stored


def restored(encoded: Encoded, size: int) -> bytes:
    """Decoded into the middle of a larger buffer, so that a write past either end shows."""
    room = bytearray(b"\xa5" * (size + 16))
    decode(encoded.codec, joined(encoded), memoryview(room)[7 : 7 + size])
    assert bytes(room[:7]) == b"\xa5" * 7
    assert bytes(room[7 + size :]) == b"\xa5" * 9
    return bytes(room[7 : 7 + size])


def assert_round_trip(data: bytes, dtype: DType) -> Encoded:
    encoded = encode(data, dtype)
    assert encoded.size <= len(data)
    assert restored(encoded, len(data)) == data
    return encoded


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def weights(dtype: DType, count: int, seed: int = 0) -> bytes:
    """`count` elements spread as trained weights are: normal, small, centred on zero."""
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal(count)
    if dtype is DType.BF16:
        return as_bf16((normal * 0.02).astype("<f4")).tobytes()
    if dtype is DType.F8_E5M2:
        return ((normal * 0.02).astype("<f2").view("<u2") >> 8).astype("u1").tobytes()
    if dtype is DType.F8_E4M3:
        return _as_e4m3(normal, rng).tobytes()
    if dtype in {DType.C64, DType.C128}:
        return (normal + 1j * rng.standard_normal(count)).astype(f"<c{dtype.width}").tobytes()
    if dtype in {DType.BOOL, DType.BYTES}:
        return (normal > 1).astype("u1").tobytes()
    scale = 0.02 if dtype.exponent_bits else 20
    return np.abs(normal * scale).astype(_NATIVE[dtype]).tobytes() if _unsigned(dtype) else _cast(normal * scale, dtype)


def _unsigned(dtype: DType) -> bool:
    return _NATIVE[dtype][1] == "u"


def _cast(values: npt.NDArray[np.float64], dtype: DType) -> bytes:
    return values.astype(_NATIVE[dtype]).tobytes()


def as_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    bits = values.view("<u4")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def _as_e4m3(normal: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    exponent = np.clip(np.frexp(normal)[1] + 7, 0, 15)
    sign = (normal < 0).astype(int) << 7
    return (sign | exponent << 3 | rng.integers(0, 8, normal.size)).astype("u1")


def odd_floats(dtype: DType) -> list[int]:
    """Bit patterns that careless code alters: zeros of both signs, denormals, infinities, NaNs with payloads."""
    bits, exponent = 8 * dtype.width, dtype.exponent_bits
    mantissa = bits - 1 - exponent
    infinity = ((1 << exponent) - 1) << mantissa
    positive = [0, 1, (1 << mantissa) - 1, 1 << mantissa, infinity - 1, infinity, infinity + 1]
    positive += [infinity | 1 << (mantissa - 1), infinity | 5, (1 << bits - 1) - 1]
    return [pattern | sign << bits - 1 for pattern in positive for sign in (0, 1)]
