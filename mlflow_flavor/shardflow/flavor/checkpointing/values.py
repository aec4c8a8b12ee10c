"""Single values of a training state as JSON that says what they were: numbers, texts, bytes, types, devices."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from shardflow.flavor.errors import CheckpointUnusable

Node = Any
"""What `json` reads and writes: null, booleans, numbers, texts and lists as they are, all else as {kind: ...}."""

PLAIN = (type(None), bool, str)
_SMALL = 1 << 63  # other readers of JSON lose digits above


def is_value(value: object) -> bool:
    """Whether something is a value that nothing is inside of."""
    return type(value) in _ENCODERS or isinstance(value, np.generic)


def encoded_value(value: Any) -> Node:
    """A value as JSON; ValueError where it holds what JSON cannot."""
    if isinstance(value, np.generic):
        return _of_numpy(value)
    return _ENCODERS[type(value)](value)


def decoded_value(kind: str, given: Any) -> Any:
    """The value that a node of a kind stands for; CheckpointUnusable if it stands for none."""
    try:
        return _DECODERS[kind](given)
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, binascii.Error):
        raise CheckpointUnusable(f"a value of the kind {kind!r:.40} cannot be understood: {given!r:.60}") from None


def _of_int(value: int) -> Node:
    return value if -_SMALL <= value < _SMALL else {"int": hex(value)}


def _of_float(value: float) -> Node:
    return value if math.isfinite(value) else {"float": repr(value)}


def _of_numpy(value: np.generic) -> Node:
    if value.dtype.kind in "OV":
        raise ValueError(f"a numpy value of type {value.dtype}")
    return {"scalar": [value.dtype.str, base64.b64encode(value.tobytes()).decode()]}


def _to_numpy(given: Any) -> np.generic:
    name, text = given
    dtype = np.dtype(str(name))
    if dtype.kind in "OV":
        raise ValueError("a type with objects in it")
    # A text without letters has bytes all the same, but none that numpy takes for it.
    made: np.generic = (
        np.frombuffer(base64.b64decode(text, validate=True), dtype, 1)[0] if dtype.itemsize else dtype.type()
    )
    return made


def _to_dtype(name: Any) -> torch.dtype:
    found = getattr(torch, str(name))
    if not isinstance(found, torch.dtype):
        raise TypeError("no type")
    return found


_ENCODERS: Mapping[type, Callable[[Any], Node]] = {
    **dict.fromkeys(PLAIN, lambda value: value),
    int: _of_int,
    float: _of_float,
    complex: lambda value: {"complex": [_of_float(value.real), _of_float(value.imag)]},
    bytes: lambda value: {"bytes": base64.b64encode(value).decode()},
    torch.dtype: lambda value: {"dtype": str(value).removeprefix("torch.")},
    torch.device: lambda value: {"device": str(value)},
    torch.Size: lambda value: {"size": list(value)},
}

_DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "int": lambda given: int(given, 16),
    "float": float,
    "complex": lambda given: complex(*(float(part["float"] if isinstance(part, dict) else part) for part in given)),
    "bytes": lambda given: base64.b64decode(given, validate=True),
    "dtype": _to_dtype,
    "device": lambda given: torch.device(str(given)),
    "size": lambda given: torch.Size(int(extent) for extent in given),
    "scalar": _to_numpy,
}
