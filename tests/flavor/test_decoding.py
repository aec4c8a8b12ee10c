"""A document that nests without end, or is no text, is refused by its name, whichever part of a model it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import save_file

from shardflow.errors import ShardflowError
from shardflow.flavor import formats, load_model, load_state_dict
from shardflow.flavor.checkpointing.trees import decode_tree
from shardflow.flavor.dcp.layout import decode_checkpoint
from shardflow.flavor.decoding import Undecodable, decoded, decoded_freely

DEEP = b"[" * 200_000 + b"]" * 200_000
RECIPE = b'{"format":1,"sharding":"?","files":[],"aliases":{}}'
BERT = RECIPE[:-1] + b',"rebuild":{"type":"transformers","architecture":"BertModel"}}'
ZARRAY = {"chunks": [1], "compressor": None, "dtype": "<f4", "fill_value": 0, "filters": None, "order": "C"}
Load = Callable[[Path], object]


class Note(msgspec.Struct):
    text: str


def model(directory: Path) -> Path:
    save_file({"w": torch.zeros(1)}, directory / "model.safetensors")
    return directory


def with_recipe(directory: Path) -> Path:
    (model(directory) / "recipe.json").write_bytes(BERT)
    return directory


def array(directory: Path) -> Path:
    (directory / "a").mkdir()
    (directory / "a" / ".zarray").write_text(json.dumps(ZARRAY | {"shape": [1], "zarr_format": 2}))
    return directory


def nothing(directory: Path) -> Path:
    (directory / "a").mkdir()
    return directory


def nesting(document: bytes) -> bytes:
    return document[:-1] + b',"x":' + DEEP + b"}"


def no_text(document: bytes) -> bytes:
    return document.replace(b"?", b"\xff")


def weights(directory: Path) -> object:
    return load_state_dict(str(directory))


def module(directory: Path) -> object:
    return load_model(str(directory))


FILES = [
    (model, "recipe.json", RECIPE, weights),
    (model, "model.safetensors.index.json", b'{"weight_map":{"w":"?"}}', weights),
    (with_recipe, "config.json", b'{"model_type":"?"}', module),
    (nothing, "pytorch_model.bin.index.json", b'{"weight_map":{"w":"?"}}', formats.load),
    (nothing, "a/zarr.json", b'{"node_type":"?"}', formats.load),
    (array, "_METADATA", b'{"tree_metadata":{},"note":"?"}', formats.load),
    (
        nothing,
        "tensors.json",
        b'{"format":1,"layout":"?","tensors":{},"aliases":{}}',
        lambda place: formats.load(place, format="tensorstore"),
    ),
]


@pytest.mark.parametrize(("prepared", "file", "document", "load"), FILES, ids=[file for _, file, *_ in FILES])
@pytest.mark.parametrize("damaged", [nesting, no_text])
def test_a_damaged_document_is_named(
    prepared: Callable[[Path], Path],
    file: str,
    document: bytes,
    load: Load,
    damaged: Callable[[bytes], bytes],
    tmp_path: Path,
) -> None:
    (prepared(tmp_path) / file).write_bytes(damaged(document))
    with pytest.raises(ShardflowError, match=file):
        load(tmp_path)


@pytest.mark.parametrize("decode", [decode_checkpoint, decode_tree])
@pytest.mark.parametrize("damaged", [nesting, no_text])
def test_a_damaged_list_of_a_step_is_named(
    decode: Callable[[bytes, str], object], damaged: Callable[[bytes], bytes]
) -> None:
    document = b'{"format":1,"directory":"?","files":[],"tensors":{},"values":{}}'
    with pytest.raises(ShardflowError, match="the step's"):
        decode(damaged(document), "the step's")


@pytest.mark.parametrize("document", [b"{}", b'{"text":1}', b'{"text":"\xff"}', b'{"text":"","x":' + DEEP + b"}", b""])
def test_there_is_one_error_for_all_that_can_be_wrong_with_a_document(document: bytes) -> None:
    with pytest.raises(Undecodable):
        decoded(document, Note)
    assert decoded(b'{"text":"a"}', Note) == Note("a")


def test_what_python_and_configs_call_numbers_is_read_where_anything_may_be_said() -> None:
    assert decoded_freely(b'{"limit":[0.0,Infinity]}') == {"limit": [0.0, float("inf")]}
    for document in (b"{", b'"\xff"', DEEP):
        with pytest.raises(Undecodable):
            decoded_freely(document)
