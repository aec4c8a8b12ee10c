"""`shardflow dvc init`: a pipeline written into a project that exists, and never over anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.conftest import Command, shardflow
from shardflow.dvc.scaffold import InTheWay, NotAProject, scaffold

__all__ = ["shardflow"]

EXAMPLE = Path(__file__).parents[3] / "examples" / "dvc_pipeline"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".dvc").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def below(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_it_is_the_pipeline_of_the_examples(project: Path) -> None:
    made = scaffold(project)
    assert set(made.files) == below(project)
    assert {"dvc.yaml", "params.yaml", "pipeline/train.py", "pipeline/.gitignore"} <= below(project)
    assert all((project / name).read_bytes() == (EXAMPLE / name).read_bytes() for name in made.files)


def test_every_file_that_a_stage_depends_on_is_written_or_made_by_another(project: Path) -> None:
    import yaml

    scaffold(project)
    stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"].values()
    made = {str(next(iter(out))) if isinstance(out, dict) else out for stage in stages for out in stage["outs"]}
    wanted = {dep for stage in stages for dep in stage["deps"]}
    assert wanted - made - below(project) == {"data/raw.csv"}


def test_into_another_directory(project: Path) -> None:
    scaffold("training")
    assert (project / "training" / "dvc.yaml").exists()


def test_what_is_there_is_left_alone_and_nothing_is_written(project: Path) -> None:
    (project / "params.yaml").write_text("mine: 1\n")
    (project / "pipeline").mkdir()
    (project / "pipeline" / "train.py").symlink_to("nowhere")
    with pytest.raises(InTheWay, match=r"params.yaml, pipeline/train.py in .* would have to be overwritten"):
        scaffold(project)
    assert below(project) == {"params.yaml"}


def test_a_directory_that_is_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAProject, match="run 'git init' and 'dvc init' there first"):
        scaffold(tmp_path)


def test_a_file_where_a_directory_should_be_leaves_nothing_behind(project: Path) -> None:
    (project / "pipeline").write_text("in the way")
    with pytest.raises(InTheWay, match="cannot be written"):
        scaffold(project)
    assert below(project) == {"pipeline"}


def test_the_command_says_what_to_do_next(project: Path, shardflow: Command) -> None:
    done = shardflow("dvc", "init", "training")
    assert done.code == 0
    assert "dvc repro" in done.out
    assert "cd training" in done.out
    again = shardflow("dvc", "init", "training")
    assert (again.code, again.out) == (1, "")
    assert "name another directory" in again.err
    document = shardflow("dvc", "init", "more", "--json").document
    assert set(document["files"]) == below(project / "more")
