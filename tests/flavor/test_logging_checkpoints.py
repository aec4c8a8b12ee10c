"""A path or URL of a checkpoint is logged whatever format it is in, in pieces, and as whatever format is asked for."""

from __future__ import annotations

import json
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tensorstore as ts
import torch

from flavor.formats.states import differing
from flavor.formats.test_others import DATA
from flavor.models import NET, net, same
from shardflow import flavor
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable, TrustRequired
from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.flavor.formats.state import MemoryState
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import TensorInfo
from shardflow.store.store import Store

State = dict[str, torch.Tensor]


def in_format(name: str) -> Callable[[State, Path], None]:
    return lambda state, place: formats.save(state, place, format=name)


def as_a_tree(state: State, place: Path) -> None:
    """Arrays that TensorStore alone wrote: nothing lists them."""
    for name, tensor in state.items():
        kvstore = {"driver": "file", "path": f"{place / name}/"}
        made = ts.open({"driver": "zarr", "kvstore": kvstore}, create=True, dtype=ts.float32, shape=tensor.shape)
        made.result().write(tensor.numpy()).result()


def as_hugging_face(state: State, place: Path) -> None:
    place.mkdir()
    half = len(state) // 2
    parts = {
        "pytorch_model-00001-of-00002.bin": list(state)[:half],
        "pytorch_model-00002-of-00002.bin": list(state)[half:],
    }
    for file, names in parts.items():
        torch.save({name: state[name] for name in names}, place / file)
    homes = {name: file for file, names in parts.items() for name in names}
    (place / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": homes}))


SOURCES = {
    "t5x": in_format("tensorstore-t5x"),
    "fast": in_format("tensorstore-fast"),
    "tree": as_a_tree,
    "dcp": in_format("dcp"),
    "zstd": in_format("torch-zstd"),
    "hugging-face": as_hugging_face,
}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_checkpoint_of_any_format_becomes_a_model(kind: str, tmp_path: Path, experiment: str) -> None:
    SOURCES[kind](net().state_dict(), tmp_path / "source")
    info = flavor.log_model(tmp_path / "source", name="net", factory=NET, sharding="layers", max_shard_bytes=100_000)
    assert same(flavor.load_model(info.model_uri), net())
    assert len(flavor.load_state_dict(info.model_uri, tensors="layers.0.*")) > 0


@pytest.mark.parametrize("name", [name for name in formats.names() if name != formats.DEFAULT])
def test_a_checkpoint_is_logged_as_any_format(name: str, tmp_path: Path, experiment: str) -> None:
    kind = "hugging-face" if name == "tensorstore-t5x" else "t5x"
    SOURCES[kind](net().state_dict(), tmp_path / "source")
    info = flavor.log_model(str(tmp_path / "source"), name="net", factory=NET, format=name)
    assert same(flavor.load_model(info.model_uri), net())


def test_a_checkpoint_of_orbax_becomes_a_model_on_the_disk(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "orbax-ocdbt.zip") as archive:
        archive.extractall(tmp_path / "orbax")
    for name in ("safetensors", "dcp"):
        flavor.save_model(tmp_path / "orbax", tmp_path / name, format=name)
        assert differing(flavor.load_state_dict(str(tmp_path / name)), formats.load(tmp_path / "orbax")) == []


def test_a_url_and_the_directory_of_a_saved_model_are_logged_too(tmp_path: Path, store: Store, experiment: str) -> None:
    for name in ("safetensors", "tensorstore-t5x"):
        formats.save(net().state_dict(), f"{store.url}/{name}", format=name)
        flavor.save_model(net(), tmp_path / name, factory=NET, format=name)
        for place in (f"{store.url}/{name}", tmp_path / name):
            info = flavor.log_model(place, name="net")
            assert differing(flavor.load_state_dict(info.model_uri), net().state_dict()) == []


def test_an_open_checkpoint_is_logged_with_what_it_was_opened_with(tmp_path: Path, experiment: str) -> None:
    as_a_tree({"kept": torch.arange(6.0), "zeros": torch.zeros(9)}, tmp_path / "tree")
    (tmp_path / "tree" / "zeros" / "0").unlink()  # as some writers do
    with pytest.raises(CheckpointDamaged, match="tensor zeros cannot be read"):
        flavor.log_model(tmp_path / "tree", name="net")
    with formats.opened(tmp_path / "tree", fill_missing=True) as checkpoint:
        info = flavor.log_model(checkpoint, name="net")
    assert not flavor.load_state_dict(info.model_uri)["zeros"].any()


def test_a_checkpoint_that_needs_trust_needs_it_for_every_format(tmp_path: Path, experiment: str) -> None:
    torch.save({"state_dict": net().state_dict(), "code": print_nothing}, tmp_path / "last.ckpt")
    for name in ("safetensors", "tensorstore-fast"):
        with pytest.raises(TrustRequired):
            flavor.log_model(tmp_path / "last.ckpt", name="net", format=name)
        info = flavor.log_model(tmp_path / "last.ckpt", name="net", format=name, trust=True)
        assert differing(flavor.load_state_dict(info.model_uri), net().state_dict()) == []


def test_a_directory_that_is_no_checkpoint_is_told(tmp_path: Path, experiment: str) -> None:
    with pytest.raises(CheckpointUnusable, match="has no weights in it"):
        flavor.log_model(tmp_path, name="net")
    with pytest.raises(CheckpointUnusable, match="does not exist"):
        flavor.log_model(tmp_path / "nothing", name="net", format="torch")


def print_nothing() -> None:
    """Something that only a pickle holds."""


class Watched:
    """A checkpoint of many tensors that counts how many of them are in memory at once."""

    def __init__(self, count: int) -> None:
        made = {f"t{number:03}": torch.full((64, 64), float(number)) for number in range(count)}
        self._state = MemoryState.of(made)
        self.tensors: dict[str, TensorInfo] = dict(self._state.tensors)
        self.aliases: dict[str, str] = {}
        self.alive: weakref.WeakSet[torch.Tensor] = weakref.WeakSet()
        self.most = 0

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        values = self._state.read(name, box).clone()
        self.alive.add(values)
        self.most = max(self.most, len(self.alive))
        return values


@pytest.mark.parametrize("name", ["safetensors", "torch", "tensorstore-fast"])
def test_few_tensors_of_a_checkpoint_are_in_memory_at_once(name: str, experiment: str) -> None:
    checkpoint = Watched(120)
    info = flavor.log_model(checkpoint, name="many", format=name)
    assert checkpoint.most < 30
    assert float(flavor.load_state_dict(info.model_uri)["t119"].mean()) == 119
