"""`tensors.json`: which tensors a checkpoint of zarr arrays has, written last, so that one without it is unfinished."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from shardflow.flavor.checkpoints import TORCH_ENDINGS
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.tensors import BYTES_OF, TensorInfo, is_possible, require_texts

LISTING_FILE = "tensors.json"
LAYOUT_FILE = ".layout"  # written first: an unfinished checkpoint is not taken for a tree that others wrote
_LONGEST_NAME = 200
_OF_FILES = (".json", ".safetensors", ".zst", *TORCH_ENDINGS)


class Item(msgspec.Struct, frozen=True):
    """A tensor, and the directory of its array."""

    directory: str
    dtype: str
    shape: tuple[int, ...]


class Listing(msgspec.Struct, frozen=True):
    """The whole file."""

    format: int
    layout: str
    tensors: Mapping[str, Item]
    aliases: Mapping[str, str]


def listing_of(layout: str, tensors: Mapping[str, TensorInfo], aliases: Mapping[str, str]) -> Listing:
    require_texts([*tensors, *aliases])
    items = {
        info.name: Item(_directory(number, info.name), info.dtype, info.shape)
        for number, info in enumerate(tensors.values())
    }
    return Listing(1, layout, items, dict(aliases))


def encode_listing(listing: Listing) -> bytes:
    return msgspec.json.format(msgspec.json.encode(listing), indent=1) + b"\n"


def decode_listing(data: bytes, name: str) -> Listing:
    """A listing whose arrays are all beside it."""
    try:
        listing = decoded(data, Listing)
    except Undecodable as error:
        raise CheckpointUnusable(f"{name} lists no tensors: {error}", remedy="write it again") from None
    if listing.format != 1:
        raise CheckpointUnusable(f"{name} is of format {listing.format}", remedy="update shardflow")
    for tensor, item in listing.tensors.items():
        inside = item.directory == quote(item.directory, safe="%") and item.directory[:1] not in ("", ".")
        if not inside or item.dtype not in BYTES_OF:
            raise CheckpointUnusable(f"{name} says that {tensor} is a {item.dtype} in {item.directory!r}")
        if not is_possible(item.dtype, item.shape):
            raise CheckpointUnusable(f"{name} says that {tensor} is {list(item.shape)}, which no tensor can be")
    for alias, kept in listing.aliases.items():
        if kept not in listing.tensors:
            raise CheckpointUnusable(f"{name} says that {alias} is {kept}, which it does not list")
    return listing


def _directory(number: int, name: str) -> str:
    """A name that any file system takes, nobody can lead elsewhere with, and no reader takes for a file of its own."""
    quoted = quote(name, safe="")
    if not quoted or len(quoted) > _LONGEST_NAME or quoted.endswith(_OF_FILES):
        return f"%%{number}"  # which quoting makes of no name
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted
