"""`diff` and `delta` on the command line: what they print, what they refuse, and with which code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Outcome
from delta.models import as_file, model, trained

Command = Callable[..., Outcome]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "v1").write_bytes(as_file(model()))
    (tmp_path / "v2").write_bytes(as_file(trained(model(), 1e-7)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_diff_shows_what_changed_tensor_by_tensor(files: Path, shardflow: Command) -> None:
    shown = shardflow("diff", "v1", "v2").out
    assert "head.weight" in shown
    assert "11 tensors: 11 changed" in shown
    assert "would be stored beside A" in shown


def test_diff_of_equal_files_lists_nothing_unless_asked(files: Path, shardflow: Command) -> None:
    shown = shardflow("diff", "v1", "v1").out
    assert "head.weight" not in shown
    assert "both hold the same" in shown
    assert "head.weight" in shardflow("diff", "v1", "v1", "--all").out


def test_diff_as_json(files: Path, shardflow: Command) -> None:
    found = shardflow("diff", "v1", "v2", "--json").document
    assert found["counts"]["changed"] == 11
    assert {tensor["kind"] for tensor in found["tensors"]} <= {"delta", "cast"}
    assert 0 < found["delta_bytes"] < 0.4 * found["bytes"]


def test_a_patch_is_made_shown_and_applied(files: Path, shardflow: Command) -> None:
    made = shardflow("delta", "create", "v1", "v2", "p")
    assert "by how they differ from it" in made.out
    assert "blake3" in shardflow("delta", "info", "p").out
    assert shardflow("delta", "info", "p", "--json").document["single"] is True
    assert "as the patch promises" in shardflow("delta", "apply", "v1", "p", "out").out
    assert (files / "out").read_bytes() == (files / "v2").read_bytes()


def test_a_chain_is_checked(files: Path, shardflow: Command) -> None:
    shardflow("delta", "create", "v1", "v2", "there")
    shardflow("delta", "create", "v2", "v1", "back")
    assert "2 patches that follow each other" in shardflow("delta", "chain", "there", "back").out
    assert shardflow("delta", "chain", "there", "back", "--json").document["patch_bytes"] > 0
    assert shardflow("delta", "apply", "v1", "there", "back", "out").code == 0
    assert (files / "out").read_bytes() == (files / "v1").read_bytes()
    refused = shardflow("delta", "chain", "there", "there")
    assert refused.code != 0
    assert "name them in their order" in refused.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["apply", "v2", "p", "out"], "v2 is not what p was made for; name the version it is for"),
        (["apply", "v1", "v2", "out"], "v2 is no sound patch"),
        (["info", "nothing"], "nothing cannot be read"),
        (["create", "v1", "nothing", "q"], "nothing does not exist"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    files: Path, shardflow: Command, arguments: list[str], complaint: str
) -> None:
    shardflow("delta", "create", "v1", "v2", "p")
    refused = shardflow("delta", *arguments)
    assert refused.code != 0
    assert complaint in refused.err
    assert not (files / "out").exists()
    assert not (files / "q").exists()
