"""A training state as one tree: its tensors apart, by name, and everything else as JSON. Nothing is pickled."""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from shardflow.flavor.checkpointing.errors import StateUnusable
from shardflow.flavor.checkpointing.values import Node, decoded_value, encoded_value, is_value
from shardflow.flavor.copying import as_memory, as_tensor
from shardflow.flavor.decoding import Undecodable, decoded_freely
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.header import NOT_A_TENSOR
from shardflow.flavor.torch_types import require_values, shapes_of

Place = tuple[str, ...]
"""The keys and numbers that lead to something in a tree."""

DEEPEST = 100  # a state that nests deeper holds itself
LARGEST_BYTES = 4 << 10  # longer ones are stored as a tensor of bytes

_TENSORS = (torch.Tensor, torch.nn.Parameter)
_TENSOR_KINDS = {"tensor", "complex128"}
_METADATA = "_metadata"  # torch notes on a state dict which version of each module wrote it
_PLAIN_KINDS = "biufcmMSU"  # those whose values are nowhere but in the array
_NUMPY_TYPES = {
    "|b1": torch.bool,
    "|i1": torch.int8,
    "|u1": torch.uint8,
    "<i2": torch.int16,
    "<i4": torch.int32,
    "<i8": torch.int64,
    "<u2": torch.uint16,
    "<u4": torch.uint32,
    "<u8": torch.uint64,
    "<f2": torch.float16,
    "<f4": torch.float32,
    "<f8": torch.float64,
    "<c8": torch.complex64,
}


@dataclass(slots=True)
class Flat:
    """A state in two halves."""

    tree: Node = None
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    arrays: set[str] = field(default_factory=set)  # of the tensors: what was an array, or bytes

    @property
    def size(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors.values())


def flatten(state: Any, name: str = "the state", *, path: tuple[str, ...] = (), taken: Container[str] = ()) -> Flat:
    """Take a state apart; its tensors are not copied, and one that is in several places is there once.

    Tensors are named by their place in the state, behind `path`; names that are `taken` are given to none.
    """
    taking = _Taking(name, taken)
    taking.flat.tree = taking.node(state, path)
    return taking.flat


def unflatten(tree: Node, tensors: Mapping[str, torch.Tensor], name: str = "the state") -> Any:
    """The state again; `tensors` may have more than it needs."""
    try:
        return _Making(tensors).value(tree)
    except (RecursionError, TypeError):  # a key or an element of a set that cannot be one
        raise CheckpointUnusable(f"{name} is damaged: it is no tree", remedy="save it again") from None
    except CheckpointUnusable as error:
        raise CheckpointUnusable(f"{name} is damaged: {error.message}", remedy="save it again") from None


def encode_tree(tree: Node) -> bytes:
    return json.dumps(tree, allow_nan=False, separators=(",", ":")).encode()


def decode_tree(data: bytes, name: str) -> Node:
    try:
        return decoded_freely(data)
    except Undecodable:
        raise CheckpointUnusable(f"{name} is not JSON", remedy="save it again") from None


def tensors_by_place(tree: Node) -> dict[Place, str]:
    """Which tensor is in each place of a tree; one that is in several is found in all of them."""
    found: dict[Place, str] = {}
    left: list[tuple[Place, Node]] = [((), tree)]
    while left:
        place, node = left.pop()
        for kind, name in node.items() if isinstance(node, dict) else ():
            if kind in _TENSOR_KINDS and isinstance(name, str):
                found[place] = name
        left += [((*place, step), inner) for step, inner in reversed(list(_steps(node)))]
    return found


def _steps(node: Node) -> Iterator[tuple[str, Node]]:
    """What a container holds, by its keys with their types, or by numbers."""
    if isinstance(node, list):
        yield from ((str(number), inner) for number, inner in enumerate(node))
        return
    for kind, given in node.items() if isinstance(node, dict) else ():
        if kind == _METADATA:
            yield kind, given
        elif kind in _MAKE_SEQUENCE and isinstance(given, list):
            yield from _steps(given)
        elif kind in _MAKE_MAPPING and isinstance(given, dict):
            yield from ((json.dumps(key), inner) for key, inner in given.items())
        elif kind in _MAKE_MAPPING and isinstance(given, list):
            pairs = (pair for pair in given if isinstance(pair, list) and len(pair) == 2)
            yield from ((json.dumps(key), inner) for key, inner in pairs)


class _Taking:
    """Goes through a state once, from the top."""

    def __init__(self, name: str, taken: Container[str]) -> None:
        self.flat = Flat()
        self._name = name
        self._taken = taken
        self._homes: dict[Hashable, str] = {}

    def node(self, value: Any, path: tuple[str, ...]) -> Node:
        if len(path) > DEEPEST:
            raise self._unusable(path[:8], "nests too deeply, or holds itself", "break the circle")
        kind = type(value)
        if kind in _TENSORS:
            return self._tensor(value, path)
        if kind is np.ndarray:
            return self._array(value, path)
        if kind is bytes and len(value) > LARGEST_BYTES:
            return {"blob": self._kept(path, as_tensor(memoryview(value)), array=True)}
        if kind in _CONTAINERS:
            return self._container(kind, value, path)
        if not is_value(value):
            raise self._refused(value, path)
        try:
            return encoded_value(value)
        except ValueError as error:
            raise self._unusable(path, f"is {error}", "store it as something else") from None

    def _container(self, kind: type, value: Any, path: tuple[str, ...]) -> Node:
        if kind in _SEQUENCES:
            items = [self.node(item, (*path, str(index))) for index, item in enumerate(value)]
            return items if kind is list else {_SEQUENCES[kind]: items}
        label = _MAPPINGS[kind]
        metadata = getattr(value, _METADATA, None)
        made: dict[str, Node] = {label: self._items(value, path)}
        if metadata is not None:
            made[_METADATA] = self.node(metadata, (*path, _METADATA))
        return made

    def _items(self, value: Mapping[Any, Any], path: tuple[str, ...]) -> Node:
        if all(type(key) is str for key in value):
            return {key: self.node(item, (*path, key)) for key, item in value.items()}
        return [[self._key(key, path), self.node(item, (*path, str(key)))] for key, item in value.items()]

    def _key(self, key: Any, path: tuple[str, ...]) -> Node:
        made = Flat()
        try:
            made = flatten(key)
        except StateUnusable:
            made.arrays.add("refused")
        if made.tensors or made.arrays:
            raise self._unusable(path, f"has the key {key!r:.60}", "use texts and numbers as keys")
        return made.tree

    def _tensor(self, tensor: torch.Tensor, path: tuple[str, ...]) -> Node:
        where = ".".join(path) or self._name
        require_values(where, tensor)
        if tensor.dtype == torch.complex128:
            return {"complex128": self._kept(path, torch.view_as_real(tensor.detach().resolve_conj()))}
        (info,) = shapes_of({where: tensor})
        home = self._homes.get(info.identity) if info.size else None
        if home is None:
            home = self._kept(path, tensor.detach())
            self._homes[info.identity] = home
        return {"tensor": home}

    def _array(self, array: np.ndarray[Any, Any], path: tuple[str, ...]) -> Node:
        if array.dtype.kind not in _PLAIN_KINDS:
            raise self._unusable(path, f"is an array of {array.dtype}", "store an array of numbers or texts")
        plain = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        kind = _NUMPY_TYPES.get(array.dtype.str, torch.uint8)
        tensor = as_tensor(plain.data).view(kind) if plain.size else torch.empty(0, dtype=kind)
        if kind.itemsize == array.dtype.itemsize:
            tensor = tensor.reshape(array.shape)
        name = self._kept(path, tensor, array=True)
        return {"array": [name, array.dtype.str, list(array.shape)]}

    def _kept(self, path: tuple[str, ...], tensor: torch.Tensor, *, array: bool = False) -> str:
        name = wanted = ".".join(path).encode(errors="replace").decode() or "value"  # a key may be no text
        number = 1
        while name in self.flat.tensors or name in self._taken or name == NOT_A_TENSOR:  # or keys that read alike
            number += 1
            name = f"{wanted}~{number}"
        self.flat.tensors[name] = tensor
        if array:
            self.flat.arrays.add(name)
        return name

    def _refused(self, value: Any, path: tuple[str, ...]) -> StateUnusable:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        if kind.endswith(".DTensor"):
            return self._unusable(
                path, "is divided among ranks", "save it with torch.distributed.checkpoint and Writer"
            )
        if hasattr(value, "state_dict"):
            return self._unusable(path, f"is a {kind}", "store its state_dict(), as state_of does")
        return self._unusable(path, f"is a {kind}, which cannot be stored", "leave it out, or store what makes it")

    def _unusable(self, path: tuple[str, ...], what: str, remedy: str) -> StateUnusable:
        return StateUnusable(f"{'.'.join(path) or self._name} {what}", remedy=remedy)


class _Making:
    """Builds what nodes stand for."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def value(self, node: Node) -> Any:
        if isinstance(node, list):
            return [self.value(item) for item in node]
        if not isinstance(node, dict):
            return node
        metadata = node.get(_METADATA)
        kinds = [kind for kind in node if kind != _METADATA]
        if len(kinds) != 1:
            raise CheckpointUnusable(f"a node has the kinds {', '.join(kinds):.60}")
        made = self._of_kind(kinds[0], node[kinds[0]])
        if metadata is not None and isinstance(made, OrderedDict):
            made._metadata = self.value(metadata)  # type: ignore[attr-defined]  # noqa: SLF001  # as torch does
        return made

    def _of_kind(self, kind: str, given: Any) -> Any:
        if kind in _MAKE_SEQUENCE:
            return _MAKE_SEQUENCE[kind](self._each(given))
        if kind in _MAKE_MAPPING:
            return _MAKE_MAPPING[kind](self._pairs(given))
        if kind == "tensor":
            return self._tensor(given)
        if kind == "complex128":
            return torch.view_as_complex(self._tensor(given))
        if kind == "blob":
            return bytes(as_memory(self._tensor(given)))
        return self._array(given) if kind == "array" else decoded_value(kind, given)

    def _each(self, given: Any) -> Iterable[Any]:
        if not isinstance(given, list):
            raise CheckpointUnusable("a sequence is none")
        return [self.value(item) for item in given]

    def _pairs(self, given: Any) -> list[tuple[Any, Any]]:
        if isinstance(given, dict):
            return [(key, self.value(item)) for key, item in given.items()]
        if not isinstance(given, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in given):
            raise CheckpointUnusable("a mapping is none")
        return [(self.value(key), self.value(item)) for key, item in given]

    def _tensor(self, name: Any) -> torch.Tensor:
        if not isinstance(name, str) or name not in self._tensors:
            raise CheckpointUnusable(f"there is no tensor {name!r:.80}")
        return self._tensors[name]

    def _array(self, given: Any) -> np.ndarray[Any, Any]:
        try:
            name, dtype, shape = given
            tensor = self._tensor(name)
            made = np.frombuffer(bytearray(as_memory(tensor)), np.dtype(str(dtype)))
            return made.reshape([int(extent) for extent in shape])
        except (ValueError, TypeError):
            raise CheckpointUnusable(f"an array is not what its node says: {given!r:.80}") from None


_SEQUENCES: Mapping[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_MAPPINGS: Mapping[type, str] = {dict: "dict", OrderedDict: "ordered", Counter: "counter"}
_CONTAINERS = {*_SEQUENCES, *_MAPPINGS}
_MAKE_SEQUENCE: Mapping[str, Callable[[Any], Any]] = {name: kind for kind, name in _SEQUENCES.items()}
_MAKE_MAPPING: Mapping[str, Callable[[Any], Any]] = {
    "dict": dict,
    "ordered": OrderedDict,
    "counter": lambda pairs: Counter(dict(pairs)),
}
