"""The head of a safetensors file that somebody else wrote: what is wrong with it is told with the name of the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shardflow.flavor import load_state_dict
from shardflow.flavor.errors import CheckpointUnusable

TABLE = b'{"?":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
DEEP = b"[" * 200_000 + b"]" * 200_000


def with_header(directory: Path, text: bytes) -> str:
    (directory / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    return str(directory)


@pytest.mark.parametrize(
    "text",
    [b"[]", TABLE.replace(b"?", b"\xff"), TABLE[:-1] + b',"x":' + DEEP + b"}", TABLE[:-1] + b',"__metadata__":1}'],
    ids=["another", "no text", "nesting", "no texts"],
)
def test_a_head_that_lists_no_tensors_is_told(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(CheckpointUnusable, match=r"model\.safetensors is no safetensors file: its header is not"):
        load_state_dict(with_header(tmp_path, text))


@pytest.mark.parametrize("shape", [[0, (1 << 63) - 1, (1 << 63) - 1], [0, 10**30], [-1]])
def test_a_shape_that_no_tensor_has_is_told(shape: list[int], tmp_path: Path) -> None:
    text = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    with pytest.raises(CheckpointUnusable, match=r"model\.safetensors: w is no safetensors file: there can be no"):
        load_state_dict(with_header(tmp_path, text))
