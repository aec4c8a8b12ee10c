"""A merged adapter decodes to the same bits with any number of threads, with numpy and torch, in blocks of any size."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from codec.adapters import Merge, merge
from codec.cases import joined
from codec.pairs import forced, restored_from
from shardflow.codec import CodecId, decode, factor_chunks, fit_factors, merged
from shardflow.codec import merges as merges_codec
from shardflow.codec.factors import Factors, read_factors
from shardflow.dtype import DType

ROWS, COLUMNS = 600, 520
every_dtype = pytest.mark.parametrize("dtype", [DType.F32, DType.F16, DType.BF16], ids=lambda dtype: dtype.name)

DECODES = """
import hashlib, sys
from pathlib import Path
from shardflow.codec import CodecId, decode
stored, *bases = (Path(name).read_bytes() for name in sys.argv[1:])
out = bytearray(len(bases[0]))
decode(CodecId.LOWRANK, stored, memoryview(out), bases)
print(hashlib.sha256(out).hexdigest())
"""


def stored(case: Merge) -> tuple[bytes, list[bytes]]:
    """A merge as a store has it: the chunk, and its bases."""
    factors = fit_factors(case.new, case.base, case.dtype, case.rows)
    assert factors
    chunks = factor_chunks(factors)
    encoded = forced(case.new, merged(case.base, case.dtype, chunks)[0])
    assert encoded.codec is CodecId.LOWRANK
    assert restored_from(encoded, len(case.new), [case.base, *chunks]) == case.new
    return joined(encoded), [case.base, *chunks]


def product_of(case: Merge, bases: list[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The factors as they are multiplied, and their product as whole numbers of any size."""
    factors: Factors = read_factors(bases[1])
    left, right = factors.as_doubles()
    exact = left[:40].astype(np.int64).astype(object) @ right.astype(np.int64).astype(object)
    return left, right, exact.astype(np.float64)


@every_dtype
def test_one_thread_and_many_decode_the_same_bits(dtype: DType, tmp_path: Path) -> None:
    case = merge(dtype, ROWS, COLUMNS, rank=16)
    stream, bases = stored(case)
    files = [tmp_path / str(number) for number in range(1 + len(bases))]
    for file, data in zip(files, [stream, *bases], strict=True):
        file.write_bytes(data)
    for threads in ("1", "2", "7"):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        command = [sys.executable, "-c", DECODES, *map(str, files)]
        found = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()
        assert found == hashlib.sha256(case.new).hexdigest()


@every_dtype
def test_torch_and_numpy_multiply_factors_to_the_same_bits(dtype: DType) -> None:
    case = merge(dtype, ROWS, COLUMNS, rank=16)
    left, right, exact = product_of(case, stored(case)[1])
    by_numpy, by_torch = left @ right, (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()
    assert by_numpy.tobytes() == by_torch.tobytes()
    assert by_numpy[:40].tobytes() == (exact + 0.0).tobytes()


@every_dtype
def test_a_chunk_decodes_with_torch_as_with_numpy(dtype: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    case = merge(dtype, ROWS, COLUMNS, rank=16)
    stream, bases = stored(case)

    class MultipliedByTorch(np.ndarray):
        def __matmul__(self, other: np.ndarray) -> np.ndarray:
            sides = (torch.from_numpy(np.array(side)) for side in (self, other))
            return torch.matmul(*sides).numpy()

    doubles = Factors.as_doubles
    monkeypatch.setattr(
        Factors, "as_doubles", lambda self: tuple(side.view(MultipliedByTorch) for side in doubles(self))
    )
    out = bytearray(len(case.new))
    decode(CodecId.LOWRANK, stream, memoryview(out), bases)
    assert out == case.new


@every_dtype
@pytest.mark.parametrize("words_at_once", [1, 1000, 7 * COLUMNS + 1, 1 << 22])
def test_blocks_of_any_size_decode_to_the_same_bits(
    dtype: DType, words_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = merge(dtype, ROWS, COLUMNS, rank=16)
    stream, bases = stored(case)
    monkeypatch.setattr(merges_codec, "_AT_ONCE", words_at_once)
    out = bytearray(len(case.new))
    decode(CodecId.LOWRANK, stream, memoryview(out), bases)
    assert out == case.new


@pytest.mark.parametrize("order", ["by columns", "backwards", "in parts of the rank"])
def test_products_do_not_depend_on_the_order_of_the_sums(order: str) -> None:
    case = merge(DType.F32, ROWS, COLUMNS, rank=16)
    left, right, _ = product_of(case, stored(case)[1])
    rank = right.shape[0]
    other = {
        "by columns": lambda: (np.asfortranarray(right.T) @ np.asfortranarray(left.T)).T,
        "backwards": lambda: left[:, ::-1] @ right[::-1],
        "in parts of the rank": lambda: sum(np.outer(left[:, k], right[k]) for k in range(rank)),
    }[order]()
    assert (other == left @ right).all()
