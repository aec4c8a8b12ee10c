"""What T5X keeps beside its arrays: one file with all parameters that have no directory of their own, and a list of
those that have.

The file is MessagePack as flax writes it. A parameter is an array in it, or says how TensorStore opens its directory.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from shardflow.flavor.formats.bits import DTYPES, Array, numpy_type
from shardflow.flavor.formats.errors import CheckpointDamaged

FILE = "checkpoint"
_REMEDY = "restore the checkpoint from a copy"
_ROOT = "optimizer"
_ARRAY, _SCALAR = 1, 3  # extension types
_CUT = "__msgpack_chunked_array__"  # arrays of more than a gibibyte, in pieces
_FIRST_KEY = b"version"
_HEAD_BYTES = 64

_logger = logging.getLogger("mlflow.shardflow")


def is_of_t5x(file: Path) -> bool:
    """Whether it is such a file: other programs call other things so."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        head = opened.read(_HEAD_BYTES)
    return head[:1] > b"\x80" and _FIRST_KEY in head


def parameters(file: Path) -> dict[str, Array | str]:
    """For each parameter its values, or the name of the directory that has them."""
    try:
        document = msgspec.msgpack.decode(file.read_bytes(), ext_hook=_extension)
        tree = document.get(_ROOT) if isinstance(document, dict) else None
        return dict(_leaves(tree, "", file)) if isinstance(tree, dict) else {}
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise CheckpointDamaged(f"{file} cannot be understood: {error}", remedy=_REMEDY) from None


def _leaves(tree: Mapping[str, Any], above: str, file: Path) -> Iterator[tuple[str, Array | str]]:
    for key, value in tree.items():
        name = f"{above}.{key}" if above else key
        if isinstance(value, np.ndarray):
            yield name, value
        elif isinstance(value, bool | int | float):
            yield name, np.asarray(value)
        elif isinstance(value, dict) and _CUT in value:
            yield name, _joined(value)
        elif isinstance(value, dict) and {"driver", "kvstore"} <= value.keys():
            yield name, _directory(value)
        elif isinstance(value, dict):
            yield from _leaves(value, name, file)
        elif value is not None:
            _logger.warning("%s: %s is left out: it is a %s, and no array", file, name, type(value).__name__)


def _directory(spec: Mapping[str, Any]) -> str:
    return str(spec["kvstore"]["path"]).rstrip("/").rpartition("/")[2]


def _joined(value: Mapping[str, Any]) -> Array:
    shape = [int(value["shape"][str(number)]) for number in range(len(value["shape"]))]
    chunks = [value["chunks"][str(number)] for number in range(len(value["chunks"]))]
    return np.concatenate(chunks).reshape(shape)


def _extension(code: int, data: memoryview) -> Any:
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"there is a value of extension type {code}")
    shape, name, values = msgspec.msgpack.decode(data)
    name = name.decode() if isinstance(name, bytes) else name
    if name not in DTYPES:
        raise ValueError(f"there are elements of type {str(name)[:40]!r}")
    dtype = numpy_type(DTYPES[name])
    if len(values) != prod(shape) * dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"an array of {shape} has {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(shape)
