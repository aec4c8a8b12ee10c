"""Projects below the root of their git repository, as `dvc init --subdir` makes them: the same data comes back."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import mlflow
import pytest

from dvc_support.commands import Project, project
from shardflow.dvc.datasets import DvcDatasetSource
from shardflow.dvc.lineage import came_from
from shardflow.dvc.tracked import DataUnavailable, tracked, tracked_from

TRAIN = "x,y\n1,2\n"


@pytest.fixture
def below(filled: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The filled project as `team/ml` of a repository; the address of its remote begins at its directory."""
    repository = tmp_path / "repository"
    repository.mkdir()
    shutil.copytree(filled.root, repository / "team" / "ml", ignore=shutil.ignore_patterns(".git"))
    made = Project(repository / "team" / "ml")
    config = made.root / ".dvc" / "config"
    config.write_text(config.read_text().replace(str(tmp_path / "remote"), "../../../../remote"))
    made.git("init", "-q", str(repository))
    made.git("config", "user.email", "someone@example.org")
    made.git("config", "user.name", "Someone")
    made.commit()
    shutil.rmtree(filled.root)
    monkeypatch.chdir(made.root)
    return made


def top(below: Project) -> Project:
    return Project(below.root.parents[1])


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def loaded(source: Any, place: Path) -> str:
    found = Path(source.load(place))
    return found.read_text() if found.is_file() else " ".join(sorted(path.read_text() for path in found.iterdir()))


def test_the_repository_is_named_with_the_path_of_the_project_in_it(below: Project) -> None:
    source = mlflow.data.from_dvc("data/train.csv").source
    document = json.loads(source.to_json())
    commit = below.git("rev-parse", "HEAD").strip()
    assert (document["repo"], document["project"]) == (str(top(below).root), "team/ml")
    assert (document["path"], document["md5"], document["committed"]) == ("data/train.csv", md5(TRAIN), True)
    assert document["uri"] == f"dvc:team/ml/data/train.csv?rev={commit}&repo={top(below).root}"


@pytest.mark.parametrize("where", ["project", "repository", "elsewhere"])
def test_what_was_recorded_is_loaded_after_the_data_has_changed(
    below: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    sources = [mlflow.data.from_dvc(f"data/{name}").source for name in ("train.csv", "images")]
    (below.root / "data" / "train.csv").write_text("new")
    below.must("add", "data/train.csv")
    below.commit()
    shutil.rmtree(below.root / ".dvc" / "cache")
    monkeypatch.chdir({"project": below.root, "repository": top(below).root, "elsewhere": tmp_path}[where])
    for number, way in enumerate((lambda source: source, lambda source: DvcDatasetSource._resolve(source.uri))):
        found = [loaded(way(source), tmp_path / f"there-{number}") for source in sources]
        assert found == [TRAIN, "first second"]


def test_a_clone_has_it_when_the_repository_is_gone(
    below: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = DvcDatasetSource.from_dict(mlflow.data.from_dvc("data/images").source.to_dict())
    clone = top(below).clone(tmp_path / "clone")
    shutil.rmtree(top(below).root)
    monkeypatch.chdir(clone.root / "team" / "ml")
    assert loaded(source, tmp_path / "there") == "first second"


@pytest.mark.parametrize("where", ["project", "elsewhere"])
def test_a_version_that_no_commit_has_comes_back_by_its_md5(
    below: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    (below.root / "data" / "images" / "a.txt").write_text("third")
    below.must("add", "data/images")
    source = mlflow.data.from_dvc("data/images").source
    assert not source.data.committed
    below.must("push")
    shutil.rmtree(below.root / "data")
    shutil.rmtree(below.root / ".dvc" / "cache")
    if where == "elsewhere":
        monkeypatch.chdir(tmp_path)
    assert loaded(source, tmp_path / "there") == "second third"


def test_a_revision_and_a_repository_can_be_named(
    below: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below.git("tag", "v1")
    (below.root / "data" / "train.csv").write_text("new")
    below.must("add", "data/train.csv")
    below.must("push")
    below.commit()
    assert mlflow.data.from_dvc("data/train.csv", rev="v1").digest == md5(TRAIN)
    monkeypatch.chdir(tmp_path)
    repository, rows = str(top(below).root), {"v1": md5(TRAIN), None: md5("new")}
    for rev, digest in rows.items():
        whole = "team/ml/data/train.csv"
        ways = [(whole, repository), (f"/{whole}", repository), (f"./x/../{whole}", repository)]
        for path, repo in (*ways, ("data/train.csv", str(below.root))):
            found = tracked(path, repo=repo, rev=rev)
            assert (found.md5, found.project, found.path) == (digest, "team/ml", "data/train.csv")


def test_data_leads_to_what_came_from_it(below: Project, tracking_uri: str) -> None:
    for data in ("data/train.csv", "data/images/a.txt@HEAD"):
        came = came_from(data, mlflow.MlflowClient())
        assert {each.path for each in came.data} >= {data.partition("@")[0]}
    assert came.data[1].path == "data/images"


def test_a_project_inside_of_another_one_has_its_own_data(filled: Project, tmp_path: Path) -> None:
    inner = project(filled.root / "inner", str(tmp_path / "remote"))
    shutil.rmtree(inner.root / ".git")
    (inner.root / "own.txt").write_text("inner")
    inner.must("add", "own.txt")
    filled.commit()
    source = mlflow.data.from_dvc("inner/own.txt").source
    assert (source.data.project, source.data.path) == ("inner", "own.txt")
    assert loaded(source, tmp_path / "there") == "inner"


def test_what_holds_a_file_is_looked_for_in_the_project_that_tracks_it(
    filled: Project, tmp_path: Path, tracking_uri: str
) -> None:
    """Both projects have a `data/images` with an `a.txt` in it."""
    inner = project(filled.root / "inner", str(tmp_path / "remote"))
    shutil.rmtree(inner.root / ".git")
    (inner.root / "data" / "images").mkdir(parents=True)
    (inner.root / "data" / "images" / "a.txt").write_text("inner")
    inner.must("add", "data/images")
    filled.commit()
    asked, around = came_from("inner/data/images/a.txt", mlflow.MlflowClient()).data
    assert (asked.path, asked.md5) == ("data/images/a.txt", md5("inner"))
    assert (around.role, around.md5) == ("holds it", tracked("inner/data/images").md5)


@pytest.mark.parametrize(("place", "path"), [("../elsewhere", "a"), ("/etc", "a"), ("team/ml", ""), ("team", "/etc")])
def test_a_project_outside_of_its_repository_is_refused(place: str, path: str) -> None:
    with pytest.raises(DataUnavailable, match="cannot be data of DVC"):
        tracked_from({"repo": "x", "path": path, "rev": None, "md5": "0" * 32, "committed": True, "project": place})
