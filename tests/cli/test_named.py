"""Places that commands are given: an empty one is refused, and a plain path that lies in a store is what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cli.conftest import Command, files_of, the_line
from shardflow.flavor import formats


@pytest.mark.parametrize(
    "words",
    [
        ("get", "URL", ""),
        ("put", "", "URL"),
        ("put", "FILE", "URL", "--base", ""),
        ("put", "FILE", "URL", "--adapter", ""),
        ("diff", "", "FILE"),
        ("diff", "FILE", ""),
        ("convert", "", "out", "--to", "torch"),
        ("convert", "FILE", "", "--to", "torch", "--replace"),
        ("delta", "create", "", "FILE", "patch"),
        ("delta", "create", "FILE", "", "patch"),
        ("delta", "create", "FILE", "FILE", ""),
        ("delta", "apply", "", "FILE", "out"),
        ("delta", "apply", "FILE", "", "out"),
        ("delta", "apply", "FILE", "FILE", ""),
        ("delta", "chain", "FILE", "--apply", "", "out"),
        ("migrate", "URL", "--from", ""),
        ("publish", "", "--name", "llama"),
        ("verify", ""),
        ("policy", "init", ""),
        ("dvc", "init", ""),
    ],
)
def test_an_empty_path_is_not_the_current_directory(
    words: tuple[str, ...], filled: Path, tmp_path: Path, shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "config.json").write_text('{"mine": 1}')
    monkeypatch.chdir(here)
    places = {"URL": f"{filled}/m/v1", "FILE": str(tmp_path / "model" / "config.json")}
    done = shardflow(*(places.get(word, word) for word in words))
    assert done.code == 2
    assert "an empty path names nothing" in the_line(done)
    assert files_of(here) == {"config.json": b'{"mine": 1}'}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(4)
    torch.save({"w": torch.randn(300, 200)}, tmp_path / "pytorch_model.bin")
    return tmp_path / "pytorch_model.bin"


def test_a_plain_path_in_a_store_is_what_is_stored_there(
    store: Path, checkpoint: Path, tmp_path: Path, shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = shardflow("convert", checkpoint, store / "llama", "--to", "safetensors", "--json")
    assert done.document["target"] == f"shardflow://file{store}/llama"
    assert shardflow("ls", store).out == "llama/\n"
    assert not (store / "llama").exists()
    monkeypatch.chdir(store)
    assert shardflow("convert", "llama", tmp_path / "back", "--to", "torch").code == 0
    assert formats.load(tmp_path / "back").keys() == {"w"}
    assert shardflow("convert", "llama", "llama", "--to", "torch").err.count("into itself") == 1
    assert "both hold the same" in shardflow("diff", "llama", f"shardflow://file{store}/llama").out
    assert shardflow("delta", "create", "llama", store / "llama", tmp_path / "patch").code == 0
    assert shardflow("delta", "apply", "llama", tmp_path / "patch", tmp_path / "same").code == 0
    assert shardflow("delta", "chain", tmp_path / "patch", "--apply", "llama", tmp_path / "again").code == 0
    assert files_of(tmp_path / "again") == files_of(tmp_path / "same")


def test_a_file_on_the_disk_is_read_where_the_store_around_it_has_none_of_its_name(
    filled: Path, shardflow: Command
) -> None:
    (filled / "config.json").write_text('{"layers": 3}')
    assert "both hold the same" in shardflow("diff", filled / "config.json", filled / "config.json").out
    done = shardflow("diff", filled / "none", filled / "config.json")
    assert f"shardflow://file{filled}/none" in the_line(done)


@pytest.mark.parametrize(
    "words",
    [
        ("get", "URL", "STORE/m/v1"),
        ("get", "URL", "STORE"),
        ("delta", "create", "FILE", "FILE", "STORE/patch"),
        ("delta", "apply", "FILE", "FILE", "STORE/out"),
        ("delta", "chain", "FILE", "--apply", "FILE", "STORE/out"),
    ],
)
def test_what_is_written_to_the_disk_may_not_be_among_the_files_of_a_store(
    words: tuple[str, ...], filled: Path, tmp_path: Path, shardflow: Command
) -> None:
    before = files_of(filled)
    places = {"URL": f"{filled}/m/v1", "FILE": str(tmp_path / "model" / "config.json")}
    words = tuple(places.get(word, word.replace("STORE", str(filled))) for word in words)
    done = shardflow(*words)
    assert done.code == 2
    assert f"{words[-1]} lies in a store: name a place outside of it" in the_line(done)
    assert f"shardflow://file{words[-1]}" in done.err
    assert files_of(filled) == before
