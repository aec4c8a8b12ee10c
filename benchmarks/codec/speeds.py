"""How fast one thread encodes and decodes: planes beside ZipNN in turn, and deltas between versions."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import whole

sys.path.append(str(Path(__file__).parents[1]))

import versions
from harness.figures import Spread
from harness.running import alternated
from shardflow.codec import decode, encode, encode_against, unchanged
from shardflow.dtype import DType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from versions import Model

CHUNK = 4 << 20
IN_A_TURN = 5  # runs of one rival before the other has its turn


@dataclass(frozen=True, slots=True)
class Speed:
    """Both directions, in 10^9 bytes of plain data for each second of CPU time."""

    into: Spread
    out: Spread


def planes(model: Model, dtype: DType, turns: int) -> dict[str, Speed]:
    """A chunk of dense layers by itself, ours and ZipNN's in turn."""
    data = dense(versions.in_kind(model, dtype))
    encoded = encode(data, dtype)
    stored, out = b"".join(encoded.parts), memoryview(bytearray(len(data)))
    into = {"Shardflow": lambda: encode(data, dtype)}
    back = {"Shardflow": lambda: decode(encoded.codec, stored, out)}
    if find_spec("zipnn"):
        packer = whole.packer_for(dtype)
        packed, plain = packer.compress(bytearray(data)), bytearray(data)
        into["ZipNN"] = lambda: packer.compress(plain)
        back["ZipNN"] = lambda: packer.decompress(packed)
    return _speeds(len(data), into, back, turns)


def deltas(new: Model, old: Model, dtype: DType, turns: int) -> Speed:
    """A chunk of dense layers against the version before, the choice of an encoding included."""
    data, base = (dense(versions.in_kind(model, dtype)) for model in (new, old))
    predictions = [unchanged(base, dtype)]
    chosen = encode_against(data, dtype, predictions)
    stored, out = b"".join(chosen.encoded.parts), memoryview(bytearray(len(data)))
    bases = [base] if chosen.prediction else []
    into = {"Shardflow": lambda: encode_against(data, dtype, predictions)}
    back = {"Shardflow": lambda: decode(chosen.encoded.codec, stored, out, bases)}
    return _speeds(len(data), into, back, turns)["Shardflow"]


def dense(model: Model) -> bytes:
    """The first chunk of the dense layers, one after the other."""
    return b"".join(tensor.words.tobytes() for _, tensor in _matrices(model))[:CHUNK]


def _matrices(model: Model) -> Iterator[tuple[str, versions.Tensor]]:
    size = 0
    for name, tensor in versions.matrices(model):
        if size < CHUNK:
            size += tensor.words.nbytes
            yield name, tensor


def _speeds(
    size: int, into: dict[str, Callable[[], object]], back: dict[str, Callable[[], object]], turns: int
) -> dict[str, Speed]:
    ways = [
        alternated({name: _timed(work, size) for name, work in works.items()}, turns, warm_up=2)
        for works in (into, back)
    ]
    return {name: Speed(*(Spread.of(way[name]) for way in ways)) for name in into}


def _timed(work: Callable[[], object], size: int) -> Callable[[int], float]:
    def turn(_: int) -> float:
        taken = []
        for _ in range(IN_A_TURN):
            start = time.process_time()
            work()
            taken.append(time.process_time() - start)
        return size / float(np.median(taken)) / 1e9

    return turn
