"""Real projects of DVC with data in them, and a tracking database of MLflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvc_support.commands import Project, project
from flavor.conftest import database, quiet, tracking_uri

__all__ = ["database", "quiet", "tracking_uri"]


@pytest.fixture(autouse=True)
def _outside_of_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project without data, whose remote is an ordinary directory; the current directory is its root."""
    made = project(tmp_path.resolve() / "project", str(tmp_path / "remote"))
    monkeypatch.chdir(made.root)
    return made


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a project that tracks a file and a directory, and with its remote. Each test gets a copy."""
    home = tmp_path_factory.mktemp("template").resolve()
    made = project(home / "project", str(home / "remote"))
    data = made.root / "data"
    (data / "images").mkdir(parents=True)
    (data / "train.csv").write_text("x,y\n1,2\n")
    (data / "images" / "a.txt").write_text("first")
    (data / "images" / "b.txt").write_text("second")
    made.must("add", "data/train.csv", "data/images")
    made.commit()
    made.must("push")
    return home


@pytest.fixture
def filled(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that tracks a file and a directory, committed and pushed; the current directory is its root."""
    home = tmp_path.resolve()
    for name in ("project", "remote"):
        shutil.copytree(template / name, home / name, symlinks=True)
    made = Project(home / "project")
    config = made.root / ".dvc" / "config"
    config.write_text(config.read_text().replace(str(template), str(home)))
    made.commit()
    monkeypatch.chdir(made.root)
    return made
