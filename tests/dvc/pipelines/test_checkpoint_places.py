"""Where a training keeps its checkpoints: apart from every other one, and found again by the same one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvc_support.commands import Project
from shardflow.dvc import Checkpoints, load_checkpoint
from shardflow.dvc.checkpoints import CheckpointsMisused
from shardflow.store.store import Store


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def stage_of(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.root)
    (project.root / "dvc.yaml").write_text("stages:\n  train:\n    cmd: train\n    params: [lr]\n")
    (project.root / "params.yaml").write_text("lr: 0.1\n")
    monkeypatch.setenv("DVC_ROOT", str(project.root))
    monkeypatch.setenv("DVC_STAGE", "train")


def place_of(pointer: str = "checkpoint.json") -> str:
    checkpoints = Checkpoints(pointer, url="store")
    checkpoints.stop()
    return checkpoints.url


def test_stages_with_other_inputs_have_other_places(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_of(filled, monkeypatch)
    urls = []
    for rate in (0.1, 0.2, 0.1):
        (filled.root / "params.yaml").write_text(f"lr: {rate}\n")
        checkpoints = Checkpoints(url="store")
        checkpoints.stop()
        urls.append(checkpoints.url)
    assert urls[0] == urls[2] != urls[1]
    assert urls[0].startswith(f"shardflow://file{filled.root}/store/train-")


@pytest.mark.parametrize("in_a_stage", [False, True])
def test_each_pointer_has_a_place_of_its_own(
    filled: Project, monkeypatch: pytest.MonkeyPatch, *, in_a_stage: bool
) -> None:
    if in_a_stage:
        stage_of(filled, monkeypatch)
    pointers = ["generator.json", "discriminator.json", "a/generator.json", "b/generator.json", "a-generator.json"]
    places = [place_of(pointer) for pointer in pointers]
    assert len(set(places)) == len(places)
    assert [place_of(pointer) for pointer in pointers] == places


def test_trainings_of_one_stage_that_share_a_store_keep_their_states_apart(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_of(filled, monkeypatch)
    with Checkpoints("first.json", url="store") as first, Checkpoints("second.json", url="store") as second:
        first.save(1, {"number": 1})
        second.save(1, {"number": 2})
    assert [load_checkpoint(pointer)["number"] for pointer in ("first.json", "second.json")] == [1, 2]


def test_a_training_that_this_process_has_not_ended_is_not_taken_over() -> None:
    with Checkpoints(url="store") as first, Checkpoints(url="store") as second:
        assert first.url != second.url


def test_a_stage_has_the_same_place_wherever_dvc_is_started(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stage_of(filled, monkeypatch)
    places = []
    for started_in in ("train", "../dvc.yaml:train", "../../dvc.yaml:train"):
        monkeypatch.setenv("DVC_STAGE", started_in)
        places.append(place_of())
    assert len(set(places)) == 1


def test_stages_of_one_name_in_several_files_have_several_places(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_of(filled, monkeypatch)
    places = []
    for below in ("a/b", "a-b", "a.b"):
        directory = filled.root / below
        directory.mkdir(parents=True)
        depth = "/".join(".." for _ in Path(below).parts)
        (directory / "dvc.yaml").write_text(f"stages:\n  train:\n    wdir: {depth}\n    cmd: train\n")
        monkeypatch.setenv("DVC_STAGE", f"{below}/dvc.yaml:train")
        places.append(place_of())
    assert len(set(places)) == 3


def test_the_store_of_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CheckpointsMisused, match="pass url=, or set SHARDFLOW_STORE"):
        Checkpoints()
    store = Store.init(str(tmp_path / "all"))
    monkeypatch.setenv("SHARDFLOW_STORE", str(store.url))
    with Checkpoints() as checkpoints:
        assert checkpoints.url == f"{store.url}/checkpoints/checkpoint/1"


@pytest.mark.parametrize("url", ["all/checkpoints", None])
def test_a_relative_place_begins_at_the_project_even_in_a_copy_of_it(
    filled: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str | None
) -> None:
    """As in `dvc exp run --temp`, which removes the copy when the experiment has ended."""
    monkeypatch.setenv("SHARDFLOW_STORE", "all")
    stage_of(filled, monkeypatch)
    shutil.copytree(filled.root, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    with Checkpoints(url=url) as checkpoints:
        assert checkpoints.url.startswith(f"shardflow://file{filled.root}/all/checkpoints/train-")


def test_outside_of_stages_too_a_relative_place_begins_at_the_project(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(filled.root)
    place = place_of()
    monkeypatch.chdir(filled.root / "data")
    assert place_of("../checkpoint.json") == place
