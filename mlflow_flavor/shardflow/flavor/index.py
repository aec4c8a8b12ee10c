"""The index of a model in several files, as Hugging Face writes it; read as something anybody may have written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.plans import Plan

INDEX_FILE = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Index:
    """Which file each tensor is in."""

    files: Mapping[str, str]


class _Stored(msgspec.Struct):
    weight_map: dict[str, str]


def made_index(plan: Plan) -> bytes:
    """The index of a plan of several shards."""
    table: dict[str, Any] = {
        "metadata": {"total_size": plan.size},
        "weight_map": {tensor.name: shard.file for shard in plan.shards for tensor in shard.tensors},
    }
    return msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n"


def read_index(data: bytes, name: str) -> Index:
    """An index whose files are all in its own directory."""
    try:
        files = decoded(data, _Stored).weight_map
    except Undecodable:
        raise CheckpointUnusable(f"{name} is no index of weights", remedy="write it again") from None
    for tensor, file in files.items():
        if not file or file in (".", "..") or "/" in file or "\\" in file or "\0" in file:
            raise CheckpointUnusable(
                f"{name} says that {tensor} is in {file!r}, which is not a file beside it",
                remedy="do not use an index of unknown origin",
            )
    return Index(files)
