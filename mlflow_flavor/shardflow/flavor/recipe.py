"""How a stored model is put together again; it lies beside the weights, so that they need no MLflow to be loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.errors import CheckpointUnusable

RECIPE_FILE = "recipe.json"
SKELETON_FILE = "skeleton.pkl"
CONFIG_FILE = "config.json"


class Factory(msgspec.Struct, frozen=True, tag="factory"):
    """Call a function that is named by where it is imported from."""

    function: str  # "package.module:name"
    arguments: Mapping[str, Any] = {}


class HuggingFace(msgspec.Struct, frozen=True, tag="transformers"):
    """Make the class of transformers that config.json names."""

    architecture: str


class Skeleton(msgspec.Struct, frozen=True, tag="pickle"):
    """Unpickle the module without its weights, which runs code."""

    file: str = SKELETON_FILE

    def __post_init__(self) -> None:
        _require_inside(self.file)


Rebuild = Factory | HuggingFace | Skeleton


class StoredFile(msgspec.Struct, frozen=True):
    """A file of weights as it was when the model was logged."""

    name: str
    size: int
    digest: str  # BLAKE3, in hexadecimal

    def __post_init__(self) -> None:
        _require_inside(self.name)


class Recipe(msgspec.Struct, frozen=True):
    """All that is known of stored weights beside the weights."""

    format: int
    sharding: str
    files: tuple[StoredFile, ...]
    aliases: Mapping[str, str]  # names of tensors that are stored under another name
    rebuild: Rebuild | None = None
    checkpoint: str = "safetensors"  # the format of the weights


def _require_inside(name: str) -> None:
    if any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"a file is not in the model: {name!r:.80}")


def encode_recipe(recipe: Recipe) -> bytes:
    return msgspec.json.format(msgspec.json.encode(recipe), indent=2) + b"\n"


def decode_recipe(data: bytes, name: str) -> Recipe:
    try:
        recipe = decoded(data, Recipe)
    except Undecodable as error:
        raise CheckpointUnusable(f"{name} cannot be understood: {error}", remedy="log the model again") from None
    if recipe.format != 1:
        raise CheckpointUnusable(
            f"{name} is of format {recipe.format}, which this version does not know", remedy="update shardflow"
        )
    return recipe
