"""MLflow runs inside stages and experiments of DVC: which tags they have, and that nothing keeps them from starting."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from dvc_support.commands import Project
from shardflow.dvc.projects import Stage, current_stage
from shardflow.dvc.stages import StageUnknown, hashes_of
from shardflow.dvc.tags import LONGEST, fitting

PIPELINE = """\
stages:
  train:
    cmd: {python} train.py
    deps: [train.py, data/images, data/train.csv]
    params: [train]
    outs:
    - tags.json: {{cache: false}}
"""
TRAIN = """\
import json
from pathlib import Path
import mlflow
mlflow.set_tracking_uri({uri!r})
with mlflow.start_run() as run:
    tags = mlflow.get_run(run.info.run_id).data.tags
Path("tags.json").write_text(json.dumps({{name: tags[name] for name in tags if name.startswith("dvc.")}}))
"""


def with_stage(project: Project, uri: str = "sqlite://") -> Project:
    (project.root / "dvc.yaml").write_text(PIPELINE.format(python=sys.executable))
    (project.root / "params.yaml").write_text("train:\n  lr: 0.1\nother: 1\n")
    (project.root / "train.py").write_text(TRAIN.format(uri=uri))
    project.commit()
    return project


def as_in_stage(monkeypatch: pytest.MonkeyPatch, project: Project, name: str = "train", **more: str) -> Stage:
    for variable, value in {"DVC_ROOT": str(project.root), "DVC_STAGE": name, **more}.items():
        monkeypatch.setenv(variable, value)
    stage = current_stage()
    assert stage is not None
    return stage


def tags_of_a_run() -> dict[str, str]:
    with mlflow.start_run() as run:
        pass
    return {name: tag for name, tag in mlflow.get_run(run.info.run_id).data.tags.items() if name.startswith("dvc.")}


def test_a_run_in_an_experiment_is_tagged_with_all_that_dvc_knows(filled: Project, tracking_uri: str) -> None:
    with_stage(filled, tracking_uri)
    baseline = filled.git("rev-parse", "HEAD").strip()
    filled.must("exp", "run", "--temp", "--name", "slower", "-S", "train.lr=0.01")
    (slower,) = [ref for ref in filled.git("for-each-ref", "--format=%(refname)").split() if ref.endswith("/slower")]
    tags = json.loads(filled.git("show", f"{slower}:tags.json"))
    assert tags["dvc.root"] == str(filled.root)
    assert (tags["dvc.stage"], tags["dvc.experiment"]) == ("train", "slower")
    assert tags["dvc.baseline"] == baseline
    assert tags["dvc.repo"]
    lock = filled.git("show", f"{slower}:dvc.lock")
    hashes = json.loads(tags["dvc.hashes"])
    assert sorted(hashes) == ["data/images", "data/train.csv", "train.py"]
    assert all(f"md5: {md5}" in lock for md5 in hashes.values())


def test_a_run_outside_of_stages_has_no_tags_of_dvc(filled: Project, tracking_uri: str) -> None:
    assert current_stage() is None
    assert tags_of_a_run() == {}


def test_a_run_in_a_stage_that_works_below_the_root_is_tagged(
    filled: Project, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stage(filled)
    monkeypatch.chdir(filled.root / "data")
    as_in_stage(monkeypatch, filled)
    tags = tags_of_a_run()
    assert tags["dvc.rev"] == filled.git("rev-parse", "HEAD").strip()
    assert "data/images" in json.loads(tags["dvc.hashes"])
    assert "dvc.experiment" not in tags


def test_a_run_starts_although_the_stage_cannot_be_read(
    filled: Project, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (filled.root / "dvc.yaml").write_text("stages: [")
    as_in_stage(monkeypatch, filled)
    with caplog.at_level(logging.WARNING):
        tags = tags_of_a_run()
    assert tags["dvc.stage"] == "train"
    assert "dvc.hashes" not in tags
    assert "does not name the data of stage train" in caplog.text


def test_the_identity_of_a_stage_changes_with_data_code_parameters_and_nothing_else(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stage(filled)
    stage = as_in_stage(monkeypatch, filled)
    found = [hashes_of(stage)]
    assert found[0].params == {"params.yaml": {"train": {"lr": 0.1}}}
    for file, text in (
        ("params.yaml", "train:\n  lr: 0.2\nother: 1\n"),
        ("train.py", "pass"),
        ("data/train.csv", "other"),
    ):
        (filled.root / file).write_text(text)
        found.append(hashes_of(stage))
    assert len({made.identity for made in found}) == 4
    (filled.root / "params.yaml").write_text("train:\n  lr: 0.2\nother: 2\n")
    assert hashes_of(stage).identity == found[-1].identity


def test_a_stage_that_no_file_has_is_told(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = as_in_stage(monkeypatch, with_stage(filled), "evaluate")
    with pytest.raises(StageUnknown, match=r"no dvc.yaml has a stage evaluate"):
        hashes_of(stage)


def test_of_two_stages_of_one_name_it_is_the_one_that_runs_in_this_directory(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stage(filled)
    below = filled.root / "below"
    below.mkdir()
    (below / "dvc.yaml").write_text("stages:\n  train:\n    cmd: python below.py\n    deps: [below.py]\n")
    (below / "below.py").write_text("pass")
    stage = as_in_stage(monkeypatch, filled, "below/dvc.yaml:train")
    monkeypatch.chdir(below)
    assert list(hashes_of(stage).deps) == ["below/below.py"]


@pytest.mark.parametrize("which", ["cats", "dogs"])
def test_of_two_stages_of_one_name_and_directory_it_is_the_one_in_the_file_that_dvc_names(
    filled: Project, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    for name in ("cats", "dogs"):
        directory = filled.root / name
        directory.mkdir()
        (directory / "data.csv").write_text(name)
        (directory / "dvc.yaml").write_text(
            f"stages:\n  train:\n    wdir: ..\n    cmd: train\n    deps: [{name}/data.csv]\n"
        )
    for address in (f"{which}/dvc.yaml:train", f"../{which}/dvc.yaml:train"):
        made = hashes_of(as_in_stage(monkeypatch, filled, address))
        assert (made.stage, list(made.deps)) == (f"{which}/dvc.yaml:train", [f"{which}/data.csv"])
    with pytest.raises(StageUnknown, match=r"cats/dvc.yaml:train and dogs/dvc.yaml:train.*a name of its own"):
        hashes_of(as_in_stage(monkeypatch, filled, "train"))


def test_a_stage_is_found_although_its_command_has_gone_to_another_directory(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_stage(filled)
    (filled.root / "below").mkdir()
    (filled.root / "below" / "dvc.yaml").write_text("stages:\n  train:\n    cmd: train\n")
    monkeypatch.chdir(filled.root / "data")
    assert hashes_of(as_in_stage(monkeypatch, filled)).stage == "dvc.yaml:train"


@pytest.mark.parametrize(
    "first",
    [
        "import mlflow",
        "import shardflow.dvc.tags",
        "import shardflow.dvc.lineage",
        "from shardflow.dvc.tags import DvcRunContext",
    ],
)
def test_whoever_is_imported_first_mlflow_knows_the_tags_and_warns_of_nothing(first: str) -> None:
    program = (
        f"{first}\nimport mlflow\n"
        "from mlflow.tracking.context.registry import _run_context_provider_registry as known\n"
        "assert 'DvcRunContext' in {type(provider).__name__ for provider in known}"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", program], check=True)


def test_more_hashes_than_fit_into_a_tag_are_counted() -> None:
    tags = fitting({f"data/part-{number:04}": "0" * 32 for number in range(500)})
    assert len(tags["dvc.hashes"]) <= LONGEST
    assert len(json.loads(tags["dvc.hashes"])) + int(tags["dvc.hashes.left_out"]) == 500


@pytest.mark.parametrize("environment", [{}, {"DVC_ROOT": "x"}, {"DVC_STAGE": "train"}])
def test_a_stage_is_known_by_root_and_name(environment: dict[str, str]) -> None:
    assert current_stage(environment) is None
    found = current_stage({"DVC_ROOT": "x", "DVC_EXP_NAME": "slower", "DVC_EXP_BASELINE_REV": "f00"})
    assert found == Stage(Path("x"), None, "slower", "f00")
