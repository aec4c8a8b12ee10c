"""How fast chunks are encoded and decoded on one core, and how small they get: `python benchmarks/codec_speed.py`.

Times are CPU seconds of the one thread that works, so that a busy machine distorts them little; each figure is the
median of several runs after a warm-up, on a chunk of 4 MiB, into memory that is already in use.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardflow.codec import decode, encode
from shardflow.dtype import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

CHUNK = 4 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table; speeds in 10^9 bytes of plain data each second."""

    case: str
    kernels: str
    codec: str
    fraction: float
    encode_gb_s: float
    decode_gb_s: float


def cases() -> Iterator[tuple[str, DType, bytes]]:
    """Names, element types and chunks: weights as training leaves them, and what lies beside them in files."""
    rng = np.random.default_rng(0)
    normal = (rng.standard_normal(CHUNK // 2) * 0.02).astype("<f4")
    half = normal[: CHUNK // 4]
    yield "bf16 weights", DType.BF16, as_bf16(normal).tobytes()
    yield "fp16 weights", DType.F16, normal.astype("<f2").tobytes()
    yield "fp32 weights", DType.F32, half.tobytes()
    yield "fp32 that is bf16", DType.F32, (as_bf16(half).astype("<u4") << 16).tobytes()
    yield "fp32 that is fp16", DType.F32, half.astype("<f2").astype("<f4").tobytes()
    yield "fp64 weights", DType.F64, rng.standard_normal(CHUNK // 8).tobytes()
    yield "fp8 e5m2 weights", DType.F8_E5M2, upper_bytes(rng.standard_normal(CHUNK).astype("<f2")).tobytes()
    yield "int8 weights", DType.I8, (rng.standard_normal(CHUNK) * 25).clip(-128, 127).astype("i1").tobytes()
    yield "int64 token ids", DType.I64, rng.integers(0, 50_000, CHUNK // 8).tobytes()
    yield "zeros", DType.F32, bytes(CHUNK)
    yield "text", DType.BYTES, b"".join(b'{"id": %d, "label": "c%d"}\n' % (n, n % 97) for n in range(1 << 18))[:CHUNK]
    yield "incompressible bytes", DType.BYTES, rng.bytes(CHUNK)


def as_bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    bits = values.view("<u4")
    rounded: npt.NDArray[np.uint16] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return rounded


def upper_bytes(values: npt.NDArray[np.float16]) -> npt.NDArray[np.uint8]:
    """float16 cut to its upper half, which is float8 with five exponent bits."""
    return values.view("u1")[1::2]


def seconds(work: Callable[[], object], repeats: int) -> float:
    """The median of the CPU time that `work` takes."""
    taken = []
    for turn in range(repeats + 3):
        start = time.thread_time()
        work()
        if turn >= 3:
            taken.append(time.thread_time() - start)
    return statistics.median(taken)


def measure(case: str, dtype: DType, chunk: bytes, kernels: str, repeats: int) -> Result:
    os.environ["SHARDFLOW_KERNELS"] = kernels
    encoded = encode(chunk, dtype)
    stored = b"".join(encoded.parts)
    out = bytearray(len(chunk))
    target = memoryview(out)
    encoding = seconds(lambda: encode(chunk, dtype), repeats)
    decoding = seconds(lambda: decode(encoded.codec, stored, target), repeats)
    if out != chunk:
        raise SystemExit(f"{case}: decoded bytes differ")
    size = len(chunk)
    return Result(case, kernels, encoded.codec.name, encoded.size / size, size / encoding / 1e9, size / decoding / 1e9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--repeat", type=int, default=21, help="runs for each figure (default: %(default)s)")
    arguments = parser.parse_args()
    print(f"{'case':22} {'kernels':8} {'codec':7} {'fraction':>8} {'encode GB/s':>12} {'decode GB/s':>12}")
    results = []
    for case, dtype, chunk in cases():
        for kernels in ("numba", "numpy"):
            result = measure(case, dtype, chunk, kernels, arguments.repeat)
            results.append(result)
            print(
                f"{case:22} {kernels:8} {result.codec:7} {result.fraction:8.4f}"
                f" {result.encode_gb_s:12.2f} {result.decode_gb_s:12.2f}"
            )
    if arguments.json:
        figures = {"chunk_bytes": CHUNK, "repeats": arguments.repeat, "results": [asdict(result) for result in results]}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
