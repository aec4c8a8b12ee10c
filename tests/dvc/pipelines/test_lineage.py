"""Which data and code made a model version, and which versions came from some data: asked of real runs and stages."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
import torch

from cli.conftest import Command, shardflow
from dvc_support.commands import Project
from flavor.conftest import experiment, store
from shardflow import flavor
from shardflow.dvc.lineage import ModelUnknown, came_from, made_from
from shardflow.errors import ShardflowError

__all__ = ["experiment", "shardflow", "store"]

PIPELINE = (
    "stages:\n  prepare:\n    cmd: cp data/train.csv ready.csv\n    deps: [data/train.csv]\n    outs: [ready.csv]\n"
)


@dataclass
class Trained:
    """A project whose stage was run, and models that were made from what it made."""

    project: Project
    first: str
    tuned: str
    run_id: str
    name: str


@pytest.fixture
def trained(filled: Project, experiment: str) -> Iterator[Trained]:
    (filled.root / "dvc.yaml").write_text(PIPELINE)
    filled.must("repro")
    filled.commit()
    name = f"classifier-{experiment}"
    weights = {"weight": torch.arange(64.0)}
    with mlflow.start_run(run_name="training") as run:
        mlflow.log_input(mlflow.data.from_dvc("ready.csv"), context="training")
        first = flavor.log_model(weights, name="model", registered_model_name=name)
    with mlflow.start_run(run_name="tuning"):
        tuned = flavor.log_model(
            {"weight": weights["weight"] + 1}, name="model", base_model=f"models:/{first.model_id}"
        )
    yield Trained(filled, str(first.model_id), str(tuned.model_id), run.info.run_id, name)
    mlflow.MlflowClient().delete_registered_model(name)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_a_model_version_names_its_data_its_code_and_the_stages_behind(trained: Trained) -> None:
    for reference in (f"{trained.name}/1", f"models:/{trained.name}/1", trained.first, f"runs:/{trained.run_id}"):
        (found,) = made_from(reference, mlflow.MlflowClient())
        assert (found.model, found.run_id) == (trained.first, trained.run_id)
    assert found.versions == (f"{trained.name}/1",)
    assert [(data.path, data.md5, data.role) for data in found.data] == [("ready.csv", md5("x,y\n1,2\n"), "training")]
    (prepared,) = found.steps
    assert prepared.stage == "prepare"
    assert prepared.commit == trained.project.git("rev-parse", "HEAD").strip()
    assert dict(prepared.deps) == {"data/train.csv": md5("x,y\n1,2\n")}


def test_a_model_leads_to_the_one_it_was_made_from(trained: Trained) -> None:
    found = made_from(trained.tuned, mlflow.MlflowClient())
    assert [each.model for each in found] == [trained.tuned, trained.first]
    assert found[0].parents == (trained.first,)
    assert found[1].data[0].path == "ready.csv"


def test_data_leads_to_every_model_over_stages_and_over_models(trained: Trained) -> None:
    for data in ("data/train.csv", "data/train.csv@HEAD", "ready.csv", md5("x,y\n1,2\n")):
        came = came_from(data, mlflow.MlflowClient())
        assert {trained.first, trained.tuned} <= {model.model for model in came.models}
    (tuned,) = [model for model in came.models if model.model == trained.tuned]
    assert tuned.how == f"models:/{trained.first}, which it was made from"
    assert came_from("data/images", mlflow.MlflowClient()).models == ()


def test_the_command_tells_it_to_people_and_to_programs(trained: Trained, shardflow: Command) -> None:
    done = shardflow("dvc", "lineage", f"{trained.name}/1")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == f"{trained.name}/1 (models:/{trained.first})"
    for part in ("training (", "ready.csv", "prepare at", "from data/train.csv"):
        assert part in done.out
    document = shardflow("dvc", "lineage", trained.tuned, "--json").document
    assert [model["model"] for model in document["models"]] == [trained.tuned, trained.first]
    came = shardflow("dvc", "lineage", "--data", "data/train.csv")
    assert f"{trained.name}/1 (models:/{trained.first})  by " in came.out
    nothing = shardflow("dvc", "lineage", "--data", "data/images")
    assert "no model came from it" in nothing.out


@pytest.mark.parametrize("place", ["another project", "no project"])
def test_data_of_another_project_leads_to_its_models_over_the_stages_of_that_one(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "beside" / ".dvc").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "beside" if place == "another project" else tmp_path)
    raw = os.path.relpath(trained.project.root / "data" / "train.csv")
    came = came_from(raw, mlflow.MlflowClient())
    assert "ready.csv" in {data.path for data in came.data}
    assert {trained.first, trained.tuned} <= {model.model for model in came.models}


@pytest.mark.parametrize(
    "reference", ["nobody/1", "nobody@champion", "nobody", "m-" + "0" * 32, "runs:/" + "0" * 32, ""]
)
def test_what_names_no_model_is_told_in_one_line(reference: str, tracking_uri: str, shardflow: Command) -> None:
    done = shardflow("dvc", "lineage", reference)
    assert (done.code, done.out) == (1, "")
    assert len(done.err.splitlines()) == 1


def test_a_question_for_nothing_or_for_two_things_is_refused(shardflow: Command) -> None:
    assert shardflow("dvc", "lineage").code == 2
    assert shardflow("dvc", "lineage", "a/1", "--data", "x").code == 2


def test_data_that_is_not_tracked_or_in_no_project_is_told(
    filled: Project, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ShardflowError, match=r"DVC does not track nothing\.csv"):
        came_from("nothing.csv", mlflow.MlflowClient())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ShardflowError, match="is in no DVC project"):
        came_from("data/train.csv", mlflow.MlflowClient())


def test_a_run_without_a_model_has_none(tracking_uri: str) -> None:
    with mlflow.start_run() as run:
        pass
    with pytest.raises(ModelUnknown, match="has logged no model"):
        made_from(f"runs:/{run.info.run_id}", mlflow.MlflowClient())
