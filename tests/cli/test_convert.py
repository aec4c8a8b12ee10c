"""`convert` writes a checkpoint in another format, on the disk or in a store, and leaves nothing half done."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cli.conftest import Outcome, the_line, without_root_rights
from shardflow.flavor import formats
from shardflow.flavor.formats import saving
from shardflow.flavor.formats.state import State

Command = Callable[..., Outcome]


@pytest.fixture
def weights(tmp_path: Path) -> dict[str, torch.Tensor]:
    torch.manual_seed(4)
    state = {f"layers.{n}.weight": (torch.randn(300, 200) * 0.02).bfloat16() for n in range(3)}
    torch.save(state, tmp_path / "pytorch_model.bin")
    return state


def same(source: str | Path, state: dict[str, torch.Tensor]) -> bool:
    found = formats.load(source)
    return found.keys() == state.keys() and all(torch.equal(found[name], value) for name, value in state.items())


def test_a_checkpoint_goes_around_through_every_format(
    tmp_path: Path, weights: dict[str, torch.Tensor], shardflow: Command
) -> None:
    source = tmp_path / "pytorch_model.bin"
    for name in formats.names():
        done = shardflow("convert", source, tmp_path / name, "--to", name)
        assert done.code == 0, done.err
        assert f"is {name} now, and the same as {source} bit by bit" in done.out
        source = tmp_path / name
    assert same(source, weights)


def test_a_store_is_source_and_target(
    tmp_path: Path, weights: dict[str, torch.Tensor], store: Path, shardflow: Command
) -> None:
    url = f"shardflow://file{store}/llama"
    found = shardflow("convert", tmp_path / "pytorch_model.bin", url, "--to", "safetensors", "--json").document
    assert (found["tensors"], found["bytes"], found["target"]) == (3, 360_000, url)
    assert shardflow("convert", url, f"{url}-zarr", "--to", "tensorstore-fast").code == 0
    assert shardflow("convert", f"{url}-zarr", tmp_path / "back", "--to", "dcp").code == 0
    assert same(tmp_path / "back", weights)
    assert "into itself" in the_line(shardflow("convert", url, url, "--to", "torch", "--replace"))


def huge_array(directory: Path, extent: int) -> Path:
    """A checkpoint of a few bytes."""
    array = {"chunks": [1], "compressor": None, "dtype": "<f4", "fill_value": 0, "filters": None, "order": "C"}
    (directory / "w").mkdir(parents=True)
    (directory / "w" / ".zarray").write_text(json.dumps(array | {"shape": [extent], "zarr_format": 2}))
    return directory


@pytest.mark.parametrize("to", formats.names())
def test_a_checkpoint_that_claims_to_be_larger_than_the_disk_is_refused_at_once(
    to: str, tmp_path: Path, shardflow: Command
) -> None:
    source = huge_array(tmp_path / "huge", 1 << 60)
    assert "bytes, and there are" in the_line(shardflow("convert", source, tmp_path / "out", "--to", to))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["huge"]


def test_a_large_checkpoint_without_values_ends_at_the_first_that_is_missing(
    tmp_path: Path, store: Path, shardflow: Command
) -> None:
    source = huge_array(tmp_path / "huge", 1 << 50)
    done = shardflow("convert", source, f"shardflow://file{store}/huge", "--to", "safetensors")
    assert "tensor w cannot be read" in the_line(done)


def test_a_target_that_exists_is_replaced_only_when_that_is_said(
    tmp_path: Path, weights: dict[str, torch.Tensor], shardflow: Command
) -> None:
    words = ("convert", tmp_path / "pytorch_model.bin", tmp_path / "out", "--to", "safetensors")
    assert shardflow(*words).code == 0
    assert "exists" in the_line(shardflow(*words))
    assert shardflow(*words, "--replace").code == 0
    assert same(tmp_path / "out", weights)


def test_what_cannot_be_converted_is_told_in_one_line(
    tmp_path: Path, weights: dict[str, torch.Tensor], shardflow: Command
) -> None:
    done = shardflow("convert", tmp_path / "pytorch_model.bin", tmp_path / "out", "--to", "pickle")
    assert done.code == 2
    assert "there is no format 'pickle'; there are safetensors, torch" in done.err
    assert "does not exist" in the_line(shardflow("convert", tmp_path / "none", tmp_path / "out", "--to", "torch"))
    assert shardflow("convert", tmp_path / "pytorch_model.bin", tmp_path / "zarr", "--to", "tensorstore").code == 0
    shutil.rmtree(tmp_path / "zarr" / "layers.1.weight")
    line = the_line(shardflow("convert", tmp_path / "zarr", tmp_path / "out", "--to", "torch"))
    assert "tensor layers.1.weight cannot be read" in line
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_may_not_be_read_is_told_as_that(
    tmp_path: Path, weights: dict[str, torch.Tensor], process: Command
) -> None:
    source = tmp_path / "pytorch_model.bin"
    source.chmod(0)
    done = process("convert", source, tmp_path / "out", "--to", "torch", before=without_root_rights)
    assert done.code == 1
    assert f"{source} cannot be read: permission denied" in the_line(done)


def test_a_copy_that_differs_never_appears(
    tmp_path: Path, weights: dict[str, torch.Tensor], shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = saving.require_same

    def altered(wanted: State, found: State, where: str) -> None:
        (file,) = Path(where).glob("*.safetensors")
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
        real(wanted, found, where)

    monkeypatch.setattr(saving, "require_same", altered)
    done = shardflow("convert", tmp_path / "pytorch_model.bin", tmp_path / "out", "--to", "safetensors")
    assert done.code == 1
    assert "is not what was read: tensor layers.2.weight has other values" in the_line(done)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_copy_in_a_store_that_is_damaged_never_takes_the_place_of_another(
    tmp_path: Path, weights: dict[str, torch.Tensor], store: Path, shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, url = saving.require_same, f"shardflow://file{store}/llama"
    other = {name: tensor + 1 for name, tensor in weights.items()}
    formats.save(other, url)
    packs = set(store.glob("packs/*/*"))

    def damaged(wanted: State, found: State, where: str) -> None:
        (new,) = set(store.glob("packs/*/*")) - packs
        data = bytearray(new.read_bytes())
        data[len(data) // 2] ^= 1
        new.write_bytes(data)
        real(wanted, found, where)

    monkeypatch.setattr(saving, "require_same", damaged)
    words = ("convert", tmp_path / "pytorch_model.bin", url, "--to", "safetensors", "--replace")
    line = the_line(shardflow(*words))
    assert "llama/model.safetensors" in line
    assert "is damaged" in line
    assert same(url, other)
    monkeypatch.undo()
    assert same(url, other)


def test_a_disk_without_room_is_told_and_nothing_stays(
    tmp_path: Path, weights: dict[str, torch.Tensor], process: Command
) -> None:
    import resource

    def cramped() -> None:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))

    for name in ("safetensors", "torch", "dcp", "tensorstore"):
        words = ("convert", tmp_path / "pytorch_model.bin", tmp_path / "out", "--to", name)
        # Nor is there room for what Python compiles: half of it would stay, and be read by all others.
        done = process(*words, before=cramped, PYTHONDONTWRITEBYTECODE="1")
        assert done.code == 1, done
        assert "cannot be written" in the_line(done)
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []
