"""`reshard` shows what it would do, does it, and finishes what was cut short."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cli.conftest import Outcome, the_line
from shardflow import flavor

Command = Callable[..., Outcome]


@pytest.fixture
def llama(tmp_path: Path, store: Path, shardflow: Command) -> Path:
    """A model of one file in a store."""
    torch.manual_seed(3)
    (tmp_path / "llama").mkdir()
    tensors = {f"layers.{n}.weight": torch.randn(500, 500) for n in range(6)}
    save_file(tensors, tmp_path / "llama" / "model.safetensors")
    assert shardflow("put", tmp_path / "llama", store / "llama").code == 0
    return store / "llama"


def test_reshard_divides_a_model_and_says_what_it_sent(llama: Path, shardflow: Command) -> None:
    before = flavor.load_state_dict(f"shardflow://file{llama}")
    done = shardflow("reshard", llama, "--sharding", "balanced", "--max-shard-size", "2MB")
    assert done.code == 0, done.err
    assert "is now 3 files, balanced" in done.out
    assert "5.7 MiB were there already" in done.out
    listed = shardflow("ls", llama)
    assert [line for line in listed.out.splitlines() if line.endswith(".safetensors")] == [
        f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
    ]
    after = flavor.load_state_dict(f"shardflow://file{llama}")
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_dry_run_lists_the_files_that_there_would_be(llama: Path, shardflow: Command) -> None:
    done = shardflow("reshard", llama, "--sharding", "layers", "--max-shard-size", "3MB", "--dry-run")
    assert done.out.splitlines()[1].split() == ["2.9", "MiB", "3", "model-00001-of-00002.safetensors"]
    assert done.out.splitlines()[-1].endswith("would be 2 files, layers; it is one file")
    assert shardflow("ls", llama).out == "model.safetensors\n"


def test_the_result_comes_as_json(llama: Path, shardflow: Command) -> None:
    found = shardflow("reshard", llama, "--max-shard-size", "2MB", "--json").document
    assert found["changed"]
    assert found["before"] == {"model.safetensors": 6_000_000}
    assert found["files"] == {f"model-0000{n}-of-00003.safetensors": 2_000_000 for n in (1, 2, 3)}
    assert found["bytes_reused"] == 6_000_000
    assert 0 < found["bytes_sent"] < 20_000
    assert found["removed"] == ["model.safetensors"]


def test_a_model_that_is_as_wanted_is_left_alone(llama: Path, shardflow: Command) -> None:
    done = shardflow("reshard", llama)
    assert (done.code, done.out) == (0, f"nothing to do: shardflow://file{llama} is one file already\n")


def test_what_is_wrong_is_one_line(llama: Path, store: Path, shardflow: Command) -> None:
    assert shardflow("reshard", llama, "--sharding", "alphabetic").code == 2
    assert shardflow("reshard", llama, "--max-shard-size", "much").code == 2
    gone = shardflow("reshard", store / "bert")
    assert (gone.code, "bert does not exist" in the_line(gone)) == (1, True)
    nowhere = shardflow("reshard", store.parent / "elsewhere")
    assert (nowhere.code, "there is no store at" in the_line(nowhere)) == (1, True)


def test_without_torch_the_remedy_is_told(llama: Path, process: Command, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = process("reshard", llama, PYTHONPATH=str(tmp_path / "bare"))
    assert done.code == 1
    assert the_line(done) == ("shardflow: reshard needs torch, which is not installed; pip install 'shardflow[flavor]'")
