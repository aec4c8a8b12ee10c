"""Checkpoints that other programs wrote: Orbax, T5X, plain zarr, several ranks of torch, Hugging Face."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import ml_dtypes
import msgspec
import numpy as np
import pytest
import tensorstore as ts
import torch
from safetensors.torch import save_file

from flavor.formats.states import differing, weights
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable, ShardMissing
from shardflow.flavor.formats.errors import CheckpointDamaged

DATA = Path(__file__).parent / "data"


@pytest.fixture(params=["orbax-ocdbt", "orbax-zarr"])
def orbax(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """What orbax-checkpoint 0.12.8 wrote of a small tree of parameters."""
    with zipfile.ZipFile(DATA / f"{request.param}.zip") as archive:
        archive.extractall(tmp_path / "orbax")
    return tmp_path / "orbax"


def test_a_checkpoint_of_orbax_is_read(orbax: Path) -> None:
    state = formats.load(orbax)
    assert torch.equal(state["params.dense.kernel"], torch.arange(48).reshape(6, 8).bfloat16())
    assert torch.equal(state["params.dense.bias"], torch.zeros(8))
    assert torch.equal(state["params.ln.scale"], torch.ones(6))
    assert int(state["step"]) == 7
    assert torch.equal(formats.read(orbax, "params.dense.kernel", slice(2, 3)), state["params.dense.kernel"][2:3])


def test_a_step_directory_of_orbax_is_read_from_above(orbax: Path) -> None:
    (orbax.parent / "run").mkdir()
    orbax.rename(orbax.parent / "run" / "default")
    assert "default/params.dense.kernel" in formats.load(orbax.parent / "run")


def test_an_array_of_orbax_that_is_gone_is_missed(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "orbax-zarr.zip") as archive:
        archive.extractall(tmp_path)
    for file in (tmp_path / "params.dense.bias").iterdir():
        file.unlink()
    with pytest.raises(CheckpointDamaged, match=r"tensor params.dense.bias is gone"):
        formats.load(tmp_path)


def test_a_database_of_orbax_that_is_damaged_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(DATA / "orbax-ocdbt.zip") as archive:
        archive.extractall(tmp_path)
    manifest = tmp_path / "manifest.ocdbt"
    manifest.write_bytes(manifest.read_bytes()[:-9])
    with pytest.raises(CheckpointDamaged, match="the database cannot be read"):
        formats.load(tmp_path)


def zarr(directory: Path, values: np.ndarray, driver: str = "zarr", **extra: object) -> None:  # type: ignore[type-arg]
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{directory}/"}, "create": True, **extra}
    array = ts.open(spec, dtype=values.dtype.name, shape=values.shape).result()
    array.write(values).result()


def of_flax(value: object) -> msgspec.msgpack.Ext:
    """An array or a number of numpy, as flax puts it into MessagePack."""
    array = np.asarray(value)
    data = msgspec.msgpack.encode([list(array.shape), array.dtype.name, array.tobytes()])
    return msgspec.msgpack.Ext(1 if isinstance(value, np.ndarray) else 3, data)


def in_directory(name: str) -> dict[str, object]:
    """What T5X notes of a parameter that has a directory."""
    return {"driver": "zarr", "dtype": "float32", "kvstore": {"driver": "file", "path": f"{name}/"}, "metadata": {}}


KERNEL, STATE = "target.encoder.layers_0.mlp.wi.kernel", "state.param_states.encoder.m"


@pytest.fixture
def t5x(tmp_path: Path) -> Path:
    """gzip, chunks by divisors; the large parameters in directories, the others in a file that lists these, too."""
    kernel = np.arange(96, dtype=np.float32).reshape(8, 12)
    chunks = {"chunks": [4, 12], "compressor": {"id": "gzip", "level": 1}}
    zarr(tmp_path / KERNEL, kernel, metadata=chunks)
    zarr(tmp_path / STATE, kernel + 1, metadata=chunks)
    layer = {"mlp": {"wi": {"kernel": in_directory(KERNEL)}}, "scale": of_flax(np.ones(8, ml_dtypes.bfloat16) * 3)}
    long = {"__msgpack_chunked_array__": True, "shape": {"0": 2, "1": 3}, "chunks": {}}
    long["chunks"] = {str(at): of_flax(np.arange(3 * at, 3 * at + 3, dtype=np.int32)) for at in range(2)}
    states = {"step": of_flax(np.int32(7)), "none": None, "param_states": {"encoder": {"m": in_directory(STATE)}}}
    tree = {"target": {"encoder": {"layers_0": layer, "table": long}}, "state": states}
    (tmp_path / "checkpoint").write_bytes(msgspec.msgpack.encode({"version": 3, "optimizer": tree}))
    return tmp_path


def test_what_t5x_keeps_in_one_file_is_read_with_its_directories(t5x: Path) -> None:
    state = formats.load(t5x)
    assert state.keys() == {
        *(KERNEL, STATE, "target.encoder.layers_0.scale", "target.encoder.table", "state.step"),
    }
    assert torch.equal(state["target.encoder.layers_0.scale"], torch.full((8,), 3, dtype=torch.bfloat16))
    assert torch.equal(state["target.encoder.table"], torch.arange(6, dtype=torch.int32).reshape(2, 3))
    assert state["state.step"] == 7
    assert torch.equal(formats.read(t5x, "target.encoder.table", slice(1, 2)), state["target.encoder.table"][1:])


def test_a_parameter_of_t5x_that_is_gone_is_missed(t5x: Path) -> None:
    shutil.rmtree(t5x / STATE)
    with pytest.raises(CheckpointDamaged, match=f"tensor {STATE} is gone, which checkpoint lists"):
        formats.load(t5x)


@pytest.mark.parametrize(
    ("tree", "why"),
    [
        ({"w": msgspec.msgpack.Ext(2, b"x")}, "extension type 2"),
        ({"w": msgspec.msgpack.Ext(1, msgspec.msgpack.encode([[1 << 40], "float32", b"x"]))}, "has 1 bytes"),
        ({"w": msgspec.msgpack.Ext(1, msgspec.msgpack.encode([[-1], "float32", b""]))}, "has 0 bytes"),
        ({"w": msgspec.msgpack.Ext(1, msgspec.msgpack.encode([[1], "object", b"x" * 8]))}, "elements of type 'object'"),
        ({"w": {"driver": "zarr", "kvstore": 3}}, "cannot be understood"),
    ],
)
def test_a_file_of_t5x_that_is_damaged_is_told(t5x: Path, tree: dict[str, object], why: str) -> None:
    (t5x / "checkpoint").write_bytes(msgspec.msgpack.encode({"version": 3, "optimizer": tree}))
    with pytest.raises(CheckpointDamaged, match=why):
        formats.load(t5x)


def test_a_file_of_that_name_that_is_of_another_program_is_passed_over(t5x: Path) -> None:
    (t5x / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-7"\n')
    assert formats.load(t5x).keys() == {KERNEL, STATE}


def test_the_directories_of_t5x_are_read(tmp_path: Path) -> None:
    """gzip, chunks by divisors, a directory for each parameter, and a file beside them that has no arrays."""
    kernel = np.arange(96, dtype=np.float32).reshape(8, 12)
    chunks = {"chunks": [4, 12], "compressor": {"id": "gzip", "level": 1}}
    zarr(tmp_path / "target.encoder.layers_0.mlp.wi.kernel", kernel, metadata=chunks)
    zarr(tmp_path / "state.param_states.encoder.m", kernel + 1, metadata=chunks)
    (tmp_path / "checkpoint").write_bytes(b"\x81\xa7version\x03")
    state = formats.load(tmp_path)
    assert torch.equal(state["target.encoder.layers_0.mlp.wi.kernel"], torch.from_numpy(kernel))
    assert torch.equal(state["state.param_states.encoder.m"], torch.from_numpy(kernel + 1))


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_a_tree_of_plain_arrays_is_read_by_its_paths(driver: str, tmp_path: Path) -> None:
    values = np.arange(12, dtype=np.int32).reshape(3, 4) + 1
    zarr(tmp_path / "model" / "dense" / "kernel", values, driver)
    zarr(tmp_path / "model" / "bias", values[0].astype(np.float16), driver)
    (tmp_path / "model" / ("zarr.json" if driver == "zarr3" else ".zgroup")).write_text(
        json.dumps({"zarr_format": 3, "node_type": "group"})
    )
    state = formats.load(tmp_path)
    assert torch.equal(state["model/dense/kernel"], torch.from_numpy(values))
    assert state["model/bias"].dtype == torch.float16
    assert formats.load(tmp_path / "model" / "bias").keys() == {"bias"}


def test_chunks_of_zeros_that_their_writer_left_out_are_filled_in_when_asked(tmp_path: Path) -> None:
    zarr(tmp_path / "bias", np.zeros(8, np.float32), metadata={"dtype": "<f4", "fill_value": 0.0})
    with pytest.raises(CheckpointDamaged, match=r"tensor bias cannot be read: NOT_FOUND: chunk .* is missing"):
        formats.load(tmp_path)
    assert torch.equal(formats.load(tmp_path, fill_missing=True)["bias"], torch.zeros(8))


def test_an_array_of_elements_that_torch_has_not_is_named(tmp_path: Path) -> None:
    zarr(tmp_path / "odd", np.zeros(3, np.complex128) + 1)
    with pytest.raises(CheckpointUnusable, match="tensor odd has elements of type complex128"):
        formats.load(tmp_path)


def test_what_ranks_divided_among_them_is_put_together(tmp_path: Path) -> None:
    """Rows over two ranks and columns over two, as the metadata of torch describe it."""
    state = {"w": torch.randn(8, 6), "b": torch.randn(6)}
    formats.save(state, tmp_path / "c", format="dcp")
    divided(tmp_path / "c", state["w"])
    assert differing(state, formats.load(tmp_path / "c")) == []
    assert torch.equal(formats.read(tmp_path / "c", "w", (slice(3, 6), slice(1, 5))), state["w"][3:6, 1:5])
    (tmp_path / "c" / "__3_0.distcp").unlink()
    assert torch.equal(formats.read(tmp_path / "c", "w", slice(0, 4)), state["w"][:4])
    with pytest.raises(CheckpointDamaged, match=r"tensor w cannot be read: __3_0.distcp, which a rank wrote, is gone"):
        formats.load(tmp_path / "c")


def divided(checkpoint: Path, values: torch.Tensor) -> None:
    import io
    import pickle

    from torch.distributed.checkpoint.filesystem import _StorageInfo
    from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

    metadata = pickle.loads((checkpoint / ".metadata").read_bytes())
    chunks = []
    for rank, (row, column) in enumerate(((0, 0), (0, 3), (4, 0), (4, 3))):
        data = io.BytesIO()
        torch.save(values[row : row + 4, column : column + 3].clone(), data)
        (checkpoint / f"__{rank}_0.distcp").open("ab").close()
        file = checkpoint / f"__{rank}_0.distcp"
        offset = file.stat().st_size
        file.write_bytes(file.read_bytes() + data.getvalue())
        chunk = ChunkStorageMetadata(torch.Size((row, column)), torch.Size((4, 3)))
        chunks.append(chunk)
        place = _StorageInfo(file.name, offset, len(data.getvalue()))
        metadata.storage_data[MetadataIndex("w", chunk.offsets, rank)] = place
    metadata.state_dict_metadata["w"].chunks = chunks
    (checkpoint / ".metadata").write_bytes(pickle.dumps(metadata))


def test_the_shards_of_hugging_face_are_read(tmp_path: Path) -> None:
    state = weights(rows=60, columns=31)
    names = list(state)
    halves = {"1.bin": names[:3], "2.bin": names[3:]}
    for file, own in halves.items():
        torch.save({name: state[name] for name in own}, tmp_path / file)
    index = {"weight_map": {name: file for file, own in halves.items() for name in own}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert differing(state, formats.load(tmp_path)) == []
    (tmp_path / "2.bin").unlink()
    with pytest.raises(ShardMissing, match=r"2\.bin does not exist"):
        formats.load(tmp_path)


def test_the_shards_of_safetensors_that_an_index_names_are_read(tmp_path: Path) -> None:
    state = weights(rows=60, columns=31)
    names = list(state)
    halves = {"model-00001-of-00002.safetensors": names[:3], "model-00002-of-00002.safetensors": names[3:]}
    for file, own in halves.items():
        save_file({name: state[name] for name in own}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in halves.items() for name in own}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert differing(state, formats.load(tmp_path)) == []
    assert torch.equal(formats.read(tmp_path, "brain", slice(3, 9)), state["brain"][3:9])
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ShardMissing, match=r"model-00002-of-00002\.safetensors"):
        formats.load(tmp_path)
