"""A model's directory as Hugging Face's libraries leave it: what is logged of it, under which name, and what is not."""

from __future__ import annotations

import json
import logging
from argparse import Namespace
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import save_file

from shardflow import flavor
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable

pytestmark = pytest.mark.usefixtures("experiment")


def weights(value: float, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    return {"a": torch.full((9,), value, dtype=dtype), "b": torch.full((9,), value + 1, dtype=dtype)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with the file that everybody reads."""
    place = tmp_path / "model"
    place.mkdir()
    save_file(weights(1), place / "model.safetensors")
    (place / "config.json").write_text("{}")
    return place


def logged(model: Path, tmp_path: Path) -> set[str]:
    """What is downloaded of it once it was logged."""
    info = flavor.log_model(model, name="model")
    files = Path(mlflow.artifacts.download_artifacts(info.model_uri, dst_path=str(tmp_path / "back"))) / "weights"
    found = {file.relative_to(files).as_posix(): file for file in files.rglob("*") if file.is_file()}
    assert all(
        file.read_bytes() == (model / name).read_bytes() for name, file in found.items() if name != "recipe.json"
    )
    return set(found)


def test_parts_in_directories_of_their_own_are_kept(model: Path, tmp_path: Path) -> None:
    for part, file in (
        ("1_Pooling", "config.json"),
        ("2_Dense", "config.json"),
        ("scheduler", "scheduler_config.json"),
    ):
        (model / part).mkdir()
        (model / part / file).write_text("{}")
    save_file(weights(2), model / "2_Dense/model.safetensors")
    torch.save(weights(3), model / "value_head.bin")
    assert logged(model, tmp_path) == {
        "model.safetensors", "config.json", "recipe.json", "value_head.bin", "1_Pooling/config.json",
        "2_Dense/config.json", "2_Dense/model.safetensors", "scheduler/scheduler_config.json",
    }  # fmt: skip


def test_the_same_weights_in_other_forms_and_what_a_training_left_are_told_and_not_logged(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("pytorch_model.bin", "optimizer.pt", "checkpoint-500/model.safetensors", "onnx/model.onnx", ".git/x"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(b"large")
    with caplog.at_level(logging.WARNING, "mlflow.shardflow"):
        assert logged(model, tmp_path) == {"model.safetensors", "config.json", "recipe.json"}
    assert "checkpoint-500/, onnx/model.onnx, optimizer.pt, pytorch_model.bin" in caplog.text


def test_of_safetensors_beside_the_usual_file_none_is_taken_for_it(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_file(weights(7), model / "weights_ema.safetensors")
    assert {name: tensor[0].item() for name, tensor in formats.load(model).items()} == {"a": 1, "b": 2}
    with caplog.at_level(logging.WARNING, "mlflow.shardflow"):
        assert logged(model, tmp_path) == {"model.safetensors", "config.json", "recipe.json"}
    assert "weights_ema.safetensors" in caplog.text


def test_what_lies_beside_weights_in_torchs_own_format_is_not_loaded_with_them(model: Path) -> None:
    torch.save({"head": torch.ones(2)}, model / "value_head.bin")
    info = flavor.log_model(model, name="model", format="torch")
    assert set(flavor.load_state_dict(info.model_uri)) == {"a", "b"}


def test_what_trainer_writes_beside_pytorch_model_bin_is_not_taken_for_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save(weights(5), model / "pytorch_model.bin")
    torch.save(Namespace(lr=1), model / "training_args.bin")
    torch.save(torch.optim.Adam([torch.nn.Parameter(torch.ones(3))]).state_dict(), model / "optimizer.pt")
    info = flavor.log_model(model, name="model")
    assert {name: tensor[0].item() for name, tensor in flavor.load_state_dict(info.model_uri).items()} == {
        "a": 5,
        "b": 6,
    }


def test_an_adapter_keeps_the_name_by_which_it_is_found(model: Path, tmp_path: Path) -> None:
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    (model / "config.json").rename(model / "adapter_config.json")
    assert logged(model, tmp_path) == {"adapter_model.safetensors", "adapter_config.json", "recipe.json"}
    info = flavor.log_model(model, name="again")
    assert set(flavor.load_state_dict(info.model_uri)) == {"a", "b"}


@pytest.mark.parametrize("chosen", [{}, {"sharding": "layers"}, {"max_shard_bytes": 50}, {"format": "torch"}])
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
def test_two_files_with_the_same_tensors_are_no_model(tmp_path: Path, suffix: str, chosen: dict[str, object]) -> None:
    for name, state in (("x", weights(1)), ("x.fp16", weights(1, torch.float16))):
        if suffix == ".bin":
            torch.save(state, tmp_path / f"{name}{suffix}")
        else:
            save_file(state, tmp_path / f"{name}{suffix}")
    with pytest.raises(CheckpointUnusable, match=r"a is in .*/x\..* and in .*/x\..*; log the one of them"):
        flavor.log_model(tmp_path, name="model", **chosen)  # type: ignore[arg-type]


def test_a_recipe_of_somebody_else_is_not_written_over(model: Path, tmp_path: Path) -> None:
    (model / "recipe.json").write_text(json.dumps({"mine": 1}))
    with pytest.raises(CheckpointUnusable, match=r"recipe.json has the name of a file that is written beside"):
        flavor.log_model(model, name="model")
    (model / "recipe.json").unlink()
    info = flavor.log_model(model, name="model")
    back = Path(mlflow.artifacts.download_artifacts(info.model_uri, dst_path=str(tmp_path / "back")))
    assert flavor.log_model(back / "weights", name="again")
