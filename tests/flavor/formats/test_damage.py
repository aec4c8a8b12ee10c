"""What is missing or altered in a checkpoint is told, with the name of the tensor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from shardflow.errors import ShardflowError
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable, TrustRequired
from shardflow.flavor.formats.errors import CheckpointDamaged

ZARR = ["tensorstore", "tensorstore-t5x", "tensorstore-fast"]
LISTING = (
    b'{"format":1,"layout":"tensorstore","tensors":{"a":{"directory":"../x","dtype":"F32","shape":[1]}},"aliases":{}}'
)
CHECKED = ["tensorstore-t5x", "tensorstore-fast"]  # plain zarr has no checksums


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {"layer.weight": (torch.randn(300, 200) * 0.02).bfloat16(), "ids": torch.randint(0, 1 << 62, (90, 90))}


@pytest.mark.parametrize("name", ZARR)
@pytest.mark.parametrize("tensor", ["layer.weight", "ids"])
def test_a_chunk_that_is_gone_names_its_tensor(
    name: str, tensor: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    formats.save(state, tmp_path / "c", format=name)
    chunk_of(tmp_path / "c", tensor).unlink()
    with pytest.raises(CheckpointDamaged, match=f"tensor {tensor} cannot be read: NOT_FOUND: chunk .* is missing"):
        formats.load(tmp_path / "c")


@pytest.mark.parametrize("name", CHECKED)
@pytest.mark.parametrize("tensor", ["layer.weight", "ids"])
@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_a_chunk_with_one_bit_altered_names_its_tensor(
    name: str, tensor: str, place: float, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    formats.save(state, tmp_path / "c", format=name)
    altered(chunk_of(tmp_path / "c", tensor), lambda data: flipped(data, int(len(data) * place)))
    with pytest.raises(CheckpointDamaged, match=f"tensor {tensor} cannot be read"):
        formats.load(tmp_path / "c")


@pytest.mark.parametrize("name", ZARR)
def test_a_chunk_that_is_cut_short_names_its_tensor(name: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    formats.save(state, tmp_path / "c", format=name)
    altered(chunk_of(tmp_path / "c", "ids"), lambda data: data[: len(data) // 2])
    with pytest.raises(CheckpointDamaged, match="tensor ids cannot be read"):
        formats.read(tmp_path / "c", "ids")
    assert torch.equal(formats.read(tmp_path / "c", "layer.weight"), state["layer.weight"])


@pytest.mark.parametrize("name", ZARR)
def test_an_array_that_is_gone_or_another_names_its_tensor(
    name: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    formats.save(state, tmp_path / "c", format=name)
    (tmp_path / "c" / "ids").rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointDamaged, match="tensor ids cannot be read: NOT_FOUND"):
        formats.load(tmp_path / "c")
    (tmp_path / "c" / "layer.weight").rename(tmp_path / "c" / "ids")
    with pytest.raises(CheckpointDamaged, match=r"tensor ids is bfloat16 .* not I64"):
        formats.read(tmp_path / "c", "ids")


@pytest.mark.parametrize("name", formats.names())
def test_a_checkpoint_without_the_file_that_completes_it_is_none(
    name: str, state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    formats.save(state, tmp_path / "c", format=name)
    last = tmp_path / "c" / formats.format_named(name).last
    if name == "safetensors":  # a single file is its own completion
        last = tmp_path / "c" / "model.safetensors"
    last.unlink()
    with pytest.raises(ShardflowError):
        formats.load(tmp_path / "c", format=name)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"[]", "lists no tensors"),
        (b'{"format": 2, "layout": "tensorstore", "tensors": {}, "aliases": {}}', "format 2"),
        (LISTING, "in '../x'"),
        (LISTING.replace(b"../x", b""), "in ''"),
        (LISTING.replace(b"../x", b"a").replace(b"F32", b"F31"), "a F31"),
        (LISTING.replace(b"../x", b"a").replace(b"[1]", b"[0,9223372036854775807,4]"), "which no tensor can be"),
        (LISTING.replace(b"../x", b"a").replace(b'"aliases":{}', b'"aliases":{"b":"c"}'), "b is c"),
    ],
)
def test_a_listing_that_leads_elsewhere_is_refused(text: bytes, why: str, tmp_path: Path) -> None:
    (tmp_path / "tensors.json").write_bytes(text)
    with pytest.raises(CheckpointUnusable, match=why):
        formats.load(tmp_path, format="tensorstore")


def test_a_compressed_torch_file_that_is_altered_is_told(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    formats.save(state, tmp_path / "c", format="torch-zstd")
    altered(tmp_path / "c" / "model.pt.zst", lambda data: flipped(data, len(data) // 2))
    with pytest.raises(CheckpointDamaged, match=r"model\.pt\.zst cannot be read"):
        formats.load(tmp_path / "c")


def test_a_distributed_checkpoint_without_the_file_of_a_rank_names_tensor_and_file(
    state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    formats.save(state, tmp_path / "c", format="dcp")
    (tmp_path / "c" / "__0_0.distcp").unlink()
    with pytest.raises(CheckpointDamaged, match=r"tensor layer.weight cannot be read: __0_0.distcp, .* is gone"):
        formats.load(tmp_path / "c")


def test_a_distributed_checkpoint_that_is_cut_names_the_tensor(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    formats.save(state, tmp_path / "c", format="dcp")
    altered(tmp_path / "c" / "__0_0.distcp", lambda data: data[: len(data) // 3])
    with pytest.raises(CheckpointDamaged, match=r"tensor (ids|layer.weight) cannot be read"):
        formats.load(tmp_path / "c")


@pytest.mark.parametrize("document", [b'{"tree_metadata":[]}', b'{"tree_metadata":{"a":[]}}'])
def test_a_tree_of_orbax_that_lists_no_entries_is_told(document: bytes, tmp_path: Path) -> None:
    formats.save({"a": torch.ones(1)}, tmp_path / "c", format="tensorstore")
    (tmp_path / "c" / "a").rename(tmp_path / "a")
    (tmp_path / "_METADATA").write_bytes(document)
    with pytest.raises(CheckpointDamaged, match="_METADATA lists no tree"):
        formats.load(tmp_path)


def test_a_layout_that_is_no_text_is_no_format(tmp_path: Path) -> None:
    (tmp_path / ".layout").write_bytes(b"\xff")
    with pytest.raises(CheckpointUnusable, match="is in no checkpoint format that is known here"):
        formats.load(tmp_path)


def test_a_torch_file_whose_tensor_is_larger_than_any_memory_is_told(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 50)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointUnusable, match=r"there is no memory for .*model\.pt: tensor w"):
        formats.load(tmp_path / "model.pt")


class Trap:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, ("touch trapped",)


def test_metadata_of_a_distributed_checkpoint_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    monkeypatch.chdir(tmp_path)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / ".metadata").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(TrustRequired, match=r"posix.system, which describes no tensors"):
        formats.load(tmp_path / "c")
    assert not (tmp_path / "trapped").exists()
    for data, why in ((b"not a pickle", "cannot be understood"), (pickle.dumps({}), "describes no checkpoint")):
        (tmp_path / "c" / ".metadata").write_bytes(data)
        with pytest.raises(CheckpointDamaged, match=why):
            formats.load(tmp_path / "c")


def chunk_of(checkpoint: Path, tensor: str) -> Path:
    return min(file for file in (checkpoint / tensor).iterdir() if file.name[-1].isdigit())


def altered(file: Path, change: Callable[[bytes], bytes]) -> None:
    file.write_bytes(change(file.read_bytes()))


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]
