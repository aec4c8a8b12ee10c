"""Write checkpoints byte for byte as torch.save does, without torch: its opcodes, its records, its alignment."""

from __future__ import annotations

import io
import struct
import zipfile
from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Storage:
    key: str
    kind: str = "FloatStorage"
    elements: int = 0


@dataclass(frozen=True)
class View:
    """A tensor; `dtype` gives the form that newer element types take."""

    storage: Storage
    shape: tuple[int, ...]
    stride: tuple[int, ...] | None = None
    offset: int = 0
    dtype: str = ""
    parameter: bool = False


@dataclass(frozen=True)
class Instance:
    """An object of a class, made without arguments, with its attributes."""

    module: str
    name: str
    state: dict[str, Any]


def dense_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(prod(shape[index + 1 :]) for index in range(len(shape)))


def pickle_of(value: Any) -> bytes:
    """Protocol 2, as torch writes it."""
    return b"\x80\x02" + _written(value) + b"."


def zip_of(records: dict[str, bytes], root: str = "archive", method: int = zipfile.ZIP_STORED) -> bytes:
    """Records in order, each content at a multiple of 64, as torch's writer pads them."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as target:
        for name, content in records.items():
            entry = zipfile.ZipInfo(f"{root}/{name}")
            entry.compress_type = method
            bare = held.tell() + 30 + len(entry.filename) + 4
            padding = -bare % 64
            entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
            target.writestr(entry, content)
    return held.getvalue()


def checkpoint(tree: Any, storages: dict[str, bytes], byteorder: bytes = b"little", **options: Any) -> bytes:
    """A whole file: what torch.save(tree) gives for these storages."""
    records = {"data.pkl": pickle_of(tree), ".format_version": b"1", ".storage_alignment": b"64"}
    records |= {"byteorder": byteorder}
    records |= {f"data/{key}": content for key, content in storages.items()}
    records |= {"version": b"3\n", ".data/serialization_id": b"0" * 40}
    return zip_of(records, **options)


def _written(value: Any) -> bytes:
    write = _WRITERS.get(type(value))
    if write is None:
        raise TypeError(f"torch files of these tests hold no {type(value).__name__}")
    return write(value)


def _integer(value: int) -> bytes:
    if abs(value) < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)


def _text(value: str) -> bytes:
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _all(values: Iterable[Any]) -> bytes:
    return b"".join(map(_written, values))


def _storage(value: Storage) -> bytes:
    kind = _name("torch.storage" if value.kind == "UntypedStorage" else "torch", value.kind)
    return b"(" + _text("storage") + kind + _text(value.key) + _text("cpu") + _integer(value.elements) + b"tQ"


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _tensor(view: View) -> bytes:
    stride = dense_stride(view.shape) if view.stride is None else view.stride
    parts = _all((view.storage, view.offset, view.shape, stride, False, {}))
    if view.dtype:
        made = _name("torch._utils", "_rebuild_tensor_v3") + b"(" + parts + _name("torch", view.dtype) + b"tR"
    else:
        made = _name("torch._utils", "_rebuild_tensor_v2") + b"(" + parts + b"tR"
    if view.parameter:
        made = _name("torch._utils", "_rebuild_parameter") + b"(" + made + _all((True, {})) + b"tR"
    return made


_WRITERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"\x88" if value else b"\x89",
    int: _integer,
    float: lambda value: b"G" + struct.pack(">d", value),
    str: _text,
    tuple: lambda value: b"(" + _all(value) + b"t",
    list: lambda value: b"](" + _all(value) + b"e",
    dict: lambda value: _name("collections", "OrderedDict") + b")R(" + _all(chain(*value.items())) + b"u",
    Storage: _storage,
    View: _tensor,
    Instance: lambda value: _name(value.module, value.name) + b")\x81" + _written(value.state) + b"b",
}
