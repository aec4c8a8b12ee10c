"""Torch checkpoints (the zip form that torch.save writes): one record for each storage, tensors as views on them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from math import prod
from typing import TYPE_CHECKING, Any

from shardflow.dtype import DType
from shardflow.layout import archive, pickled
from shardflow.layout.model import Damaged, Layout, ReadAt, Segment, Tensor, dense_length, lay_out
from shardflow.layout.pickled import Call, External, Name, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_LARGEST_PICKLE = 32 << 20
_MOST_VISITS = 4_000_000
_MOST_HELD = 64 << 20  # bytes of paths on the way, so that shared and nested containers cannot multiply them
_PATH_ITSELF = 64

# Types that are not here (8-bit floats of other kinds, packed quantised ones) stay bytes with a name and a shape.
_DTYPES = {
    "torch.DoubleStorage": DType.F64,
    "torch.FloatStorage": DType.F32,
    "torch.HalfStorage": DType.F16,
    "torch.BFloat16Storage": DType.BF16,
    "torch.LongStorage": DType.I64,
    "torch.IntStorage": DType.I32,
    "torch.ShortStorage": DType.I16,
    "torch.CharStorage": DType.I8,
    "torch.ByteStorage": DType.U8,
    "torch.BoolStorage": DType.BOOL,
    "torch.ComplexFloatStorage": DType.C64,
    "torch.ComplexDoubleStorage": DType.C128,
    "torch.QInt8Storage": DType.I8,
    "torch.QUInt8Storage": DType.U8,
    "torch.QInt32Storage": DType.I32,
    "torch.float8_e4m3fn": DType.F8_E4M3,
    "torch.float8_e5m2": DType.F8_E5M2,
    "torch.uint16": DType.U16,
    "torch.uint32": DType.U32,
    "torch.uint64": DType.U64,
    "torch.float64": DType.F64,
    "torch.float32": DType.F32,
    "torch.float16": DType.F16,
    "torch.bfloat16": DType.BF16,
    "torch.int64": DType.I64,
    "torch.int32": DType.I32,
    "torch.int16": DType.I16,
    "torch.int8": DType.I8,
    "torch.uint8": DType.U8,
    "torch.bool": DType.BOOL,
    "torch.complex64": DType.C64,
    "torch.complex128": DType.C128,
}
_TENSORS = {  # functions that view a storage: (storage, offset, shape, stride, ...) -> where the dtype is, if given
    "torch._utils._rebuild_tensor": None,
    "torch._utils._rebuild_tensor_v2": None,
    "torch._utils._rebuild_tensor_v3": 6,
    "torch._utils._rebuild_qtensor": None,
}
_MOST_WRAPPERS = 4
_OF_MODULES = {"_modules", "_parameters", "_buffers"}  # attributes that a state dict's names leave out


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor on a storage."""

    key: str
    dtype: DType
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def parse(read_at: ReadAt, size: int, root: str, members: Mapping[str, archive.Member]) -> Layout:
    """Every storage that a tensor uses a segment, named by the first of them."""
    tree = pickled.read(archive.content(read_at, size, members[f"{root}/data.pkl"], _LARGEST_PICKLE))
    order = members.get(f"{root}/byteorder")
    big = order is not None and archive.content(read_at, size, order, 16).strip() == b"big"
    found: dict[str, Segment] = {}
    tensors = []
    for name, view in _named_views(tree):
        if view.key not in found:
            member = members[f"{root}/data/{view.key}"]
            found[view.key] = _segment(member, archive.start_of(read_at, size, member), name, view, big)
        _require_inside(view, found[view.key].length)
        tensors.append(Tensor(name, view.dtype, view.shape))
    return lay_out("torch", size, found.values(), tensors)


def _segment(member: archive.Member, start: int, name: str, view: _View, big_endian: bool) -> Segment:
    if not member.stored:
        raise Damaged(f"{member.name!r} is compressed")
    dtype = DType.BYTES if big_endian else view.dtype
    return Segment(start, member.length, dtype, name, _shape_in_memory(view, member.length))


def _shape_in_memory(view: _View, length: int) -> tuple[int, ...]:
    """The view's shape if it is the whole storage (transposed ones in the order they lie), else a flat one."""
    if view.dtype is DType.BYTES:
        return view.shape
    lying = sorted(zip(view.stride, view.shape, strict=True), key=lambda pair: pair[0], reverse=True)
    shape = tuple(extent for _, extent in lying)
    whole = all(extent == 1 or stride == prod(shape[index + 1 :]) for index, (stride, extent) in enumerate(lying))
    if view.offset == 0 and whole and prod(shape) * view.dtype.width == length:
        return shape
    if length % view.dtype.width:
        raise Damaged(f"{length} bytes of {view.dtype.name}")
    return (length // view.dtype.width,)


def _require_inside(view: _View, length: int) -> None:
    if view.dtype is DType.BYTES or 0 in view.shape:
        return
    last = view.offset + sum((extent - 1) * stride for extent, stride in zip(view.shape, view.stride, strict=True))
    if (last + 1) * view.dtype.width > length:
        raise Damaged(f"a tensor up to element {last} of a storage of {length} bytes")


def _named_views(tree: Any) -> Iterator[tuple[str, _View]]:
    """Every tensor with the path that leads to it, in the order of the pickle."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    visits = held = 0
    while waiting:
        path, node = waiting.pop()
        view = _as_view(node)
        if view is not None:
            yield path or "tensor", view
            continue
        below = []
        for key, value in _children(node):
            visits += 1
            if isinstance(value, _CONTAINERS):
                below.append((_joined(path, key), value))
                held += _PATH_ITSELF + len(below[-1][0])
            if visits > _MOST_VISITS or held > _MOST_HELD:
                raise Damaged("more to walk through than any checkpoint has")
        waiting.extend(reversed(below))


_CONTAINERS = (Table, Call, list, tuple)


def _children(node: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(node, Table):
        return node.items
    if isinstance(node, Call):
        state = () if node.items else node.state  # what a dict carries besides its items is not of the model
        return chain(enumerate(node.args), node.items, _children(state))
    return enumerate(node) if isinstance(node, list | tuple) else ()


def _joined(path: str, key: Any) -> str:
    """Text and numbers name what they lead to; other keys are rare and lead to nothing that has a name."""
    word = str(key) if isinstance(key, str | int) else "?"
    if word in _OF_MODULES:
        return path
    return f"{path}.{word}" if path else word


def _as_view(node: Any) -> _View | None:
    """The tensor that this call makes, through any number of wrappers (parameters, tensor subclasses)."""
    for _ in range(_MOST_WRAPPERS):
        if not (isinstance(node, Call) and isinstance(node.function, Name)):
            return None
        path = node.function.path
        if path in _TENSORS:
            return _view(node.args, _TENSORS[path])
        if path in {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}:
            node = node.args[0]
        elif path == "torch._tensor._rebuild_from_type_v2" and isinstance(node.args[2], tuple):
            node = Call(node.args[0], node.args[2])
        else:
            return None
    return None


def _view(args: Sequence[Any], dtype_at: int | None) -> _View:
    storage, offset, shape, stride = args[:4]
    kind, key = _storage(storage)
    if dtype_at is not None:
        kind = args[dtype_at]
    dtype = _DTYPES.get(kind.path, DType.BYTES) if isinstance(kind, Name) else DType.BYTES
    dense_length(dtype, shape)
    dense_length(dtype, stride)
    if not (isinstance(offset, int) and 0 <= offset < 1 << 63 and len(shape) == len(stride)):
        raise Damaged(f"a tensor of {len(shape)} dimensions with {len(stride)} strides")
    return _View(key, dtype, offset, tuple(shape), tuple(stride))


def _storage(value: Any) -> tuple[Any, str]:
    """The type and the record of a storage, from its persistent id."""
    identity = value.identity if isinstance(value, External) else None
    match identity:
        case ("storage", kind, str(key), *_):
            return kind, key
    raise Damaged("a tensor without a storage")
