"""Finds the arrays of checkpoints that others wrote: trees of zarr arrays, or databases of them (OCDBT)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorstore as ts

from shardflow.flavor.decoding import Undecodable, decoded_freely
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.formats import t5x
from shardflow.flavor.formats.bits import Array
from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.flavor.formats.flight import said_of
from shardflow.flavor.formats.layouts import Json
from shardflow.flavor.formats.opening import array_spec, spec_at

_DATABASE = "manifest.ocdbt"
_DRIVERS = {".zarray": "zarr", "zarr.json": "zarr3"}
_ORBAX_TREE = "_METADATA"
_DEEPEST = 32
_REMEDY = "restore the checkpoint from a copy"


def is_tree(directory: Path) -> bool:
    return directory.is_dir() and next(_places(directory), None) is not None


def tree_arrays(directory: Path, *, fill_missing: bool = False) -> dict[str, Json | Array]:
    """How to open each array, by its path in the tree; or the array itself, if it lies in a file with others."""
    found: dict[str, Json | Array] = {}
    places = list(_places(directory))
    for place in places:
        prefix = "" if place == directory else f"{place.relative_to(directory)}/"
        if (place / _DATABASE).is_file():
            found |= {f"{prefix}{name}": spec for name, spec in _in_database(place, fill_missing)}
        else:
            found[prefix.rstrip("/") or place.name] = array_spec(place, fill_missing=fill_missing)
    if not found:
        raise CheckpointUnusable(f"{directory} has no zarr arrays in it", remedy="name the directory they are in")
    for tree in directory.rglob(_ORBAX_TREE):
        _require_all(tree, directory, found)
    for file in sorted({above / t5x.FILE for place in places for above in (place, place.parent)}):
        if file.parent.is_relative_to(directory) and t5x.is_of_t5x(file):
            found |= _in_file(file, directory, found)
    return dict(sorted(found.items()))


def _places(directory: Path, depth: int = 0) -> Iterator[Path]:
    """Directories that are an array or a database; what is inside of one is its own affair."""
    if (directory / _DATABASE).is_file() or _is_array(directory):
        yield directory
        return
    if depth < _DEEPEST:
        for inner in sorted(directory.iterdir()):
            if inner.is_dir() and not inner.is_symlink():
                yield from _places(inner, depth + 1)


def _is_array(directory: Path) -> bool:
    if (directory / ".zarray").is_file():
        return True
    file = directory / "zarr.json"
    if not file.is_file():
        return False
    return _document(file).get("node_type") == "array"


def _in_database(directory: Path, fill_missing: bool) -> Iterator[tuple[str, Json]]:
    base = {"driver": "file", "path": f"{directory}/"}
    with said_of("of the database", "read", directory):
        database: Any = ts.KvStore.open({"driver": "ocdbt", "base": base}).result()
        keys = [key.decode() for key in database.list().result()]
    for key in keys:
        name, _, file = key.rpartition("/")
        if file in _DRIVERS:
            kvstore = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
            yield name, spec_at(kvstore, _DRIVERS[file], fill_missing=fill_missing)


def _in_file(file: Path, directory: Path, found: Mapping[str, object]) -> dict[str, Array]:
    """The parameters that T5X keeps in a file; all others that it lists have to be there."""
    prefix = "" if file.parent == directory else f"{file.parent.relative_to(directory)}/"
    inside: dict[str, Array] = {}
    for name, value in t5x.parameters(file).items():
        if not isinstance(value, str):
            inside[f"{prefix}{name}"] = value
        elif f"{prefix}{value}" not in found:
            raise CheckpointDamaged(f"{directory}: tensor {value} is gone, which {file.name} lists", remedy=_REMEDY)
    return inside


def _require_all(tree: Path, directory: Path, found: Mapping[str, object]) -> None:
    """Orbax lists what it wrote: an array that is gone is told by that alone."""
    prefix = "" if tree.parent == directory else f"{tree.parent.relative_to(directory)}/"
    for name, kind in _listed(tree):
        if kind in {"jax.Array", "np.ndarray"} and f"{prefix}{name}" not in found:
            raise CheckpointDamaged(f"{directory}: tensor {name} is gone, which {_ORBAX_TREE} lists", remedy=_REMEDY)


def _listed(tree: Path) -> list[tuple[str, str]]:
    """Name and kind of each entry."""
    try:
        return [
            (
                ".".join(str(step.get("key")) for step in entry.get("key_metadata", [])),
                str(entry.get("value_metadata", {}).get("value_type")),
            )
            for entry in _document(tree).get("tree_metadata", {}).values()
        ]
    except (AttributeError, TypeError):
        raise CheckpointDamaged(f"{tree} lists no tree", remedy=_REMEDY) from None


def _document(file: Path) -> dict[str, Any]:
    try:
        document = decoded_freely(file.read_bytes())
    except Undecodable:
        raise CheckpointDamaged(f"{file} is no JSON", remedy=_REMEDY) from None
    return document if isinstance(document, dict) else {}
