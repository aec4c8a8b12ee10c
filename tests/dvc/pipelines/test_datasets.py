"""Data that DVC tracks as MLflow's datasets: what is recorded, and that exactly it comes back."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.data.dataset_source_registry import get_registered_sources, resolve_dataset_source

from dvc_support.commands import Project
from dvc_support.places import Place
from services.fixtures import fresh_url
from services.service import Service
from shardflow.dvc.datasets import BadAddress, DvcDatasetSource, parsed
from shardflow.dvc.tracked import DataAltered, DataChanged, DataInTheWay, DataUnavailable, DataUntracked, tracked_from
from shardflow.errors import ShardflowError


def logged(dataset: Any) -> Any:
    """A dataset as MLflow gives it back after it was logged.

    In an experiment of its own: in one, MLflow takes data of the same name and digest for what it has, source and all.
    """
    with mlflow.start_run(experiment_id=mlflow.create_experiment(secrets.token_hex(4))) as run:
        mlflow.log_input(dataset, context="training")
    (found,) = mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    return found.dataset


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_a_logged_file_names_repository_revision_path_and_md5(filled: Project, tracking_uri: str) -> None:
    dataset = logged(mlflow.data.from_dvc("data/train.csv"))
    assert (dataset.name, dataset.digest, dataset.source_type) == ("data/train.csv", md5("x,y\n1,2\n"), "dvc")
    source = json.loads(dataset.source)
    commit = filled.git("rev-parse", "HEAD").strip()
    assert source["uri"] == f"dvc:data/train.csv?rev={commit}&repo={filled.root}"
    assert (source["repo"], source["rev"], source["path"]) == (str(filled.root), commit, "data/train.csv")
    assert (source["md5"], source["size"], source["committed"]) == (dataset.digest, 8, True)


def test_what_was_logged_is_loaded_after_the_data_has_changed(
    filled: Project, tracking_uri: str, tmp_path: Path
) -> None:
    files, directory = (logged(mlflow.data.from_dvc(f"data/{name}")) for name in ("train.csv", "images"))
    assert directory.digest.endswith(".dir")
    assert len(directory.digest) == 36
    (filled.root / "data" / "train.csv").write_text("x,y\n3,4\n")
    (filled.root / "data" / "images" / "c.txt").write_text("third")
    filled.must("add", "data/train.csv", "data/images")
    filled.commit()
    file = mlflow.data.get_source(files).load(tmp_path / "then")
    assert Path(file).read_text() == "x,y\n1,2\n"
    images = Path(mlflow.data.get_source(directory).load())
    mlflow.data.get_source(directory).load(images.parent)  # once more to the same place
    assert {path.name: path.read_text() for path in images.iterdir()} == {"a.txt": "first", "b.txt": "second"}
    shutil.rmtree(images.parent)


def test_a_version_is_loaded_over_another_one_unless_files_of_that_would_stay_among_its_own(
    filled: Project, tracking_uri: str, tmp_path: Path
) -> None:
    first = mlflow.data.from_dvc("data/images").source
    (filled.root / "data" / "images" / "a.txt").write_text("changed")
    (filled.root / "data" / "images" / "c.txt").write_text("third")
    filled.must("add", "data/images")
    filled.commit()
    second = mlflow.data.from_dvc("data/images").source
    there = Path(first.load(tmp_path / "there"))
    assert (there / "a.txt").read_text() == "first"
    second.load(tmp_path / "there")
    found = {path.name: path.read_text() for path in there.iterdir()}
    assert found == {"a.txt": "changed", "b.txt": "second", "c.txt": "third"}
    with pytest.raises(DataInTheWay, match=r"there/images holds c\.txt, which this version does not have; remove it"):
        first.load(tmp_path / "there")
    assert {path.name: path.read_text() for path in there.iterdir()} == found
    assert list((tmp_path / "there").iterdir()) == [there], "nothing is left beside it"


def test_a_copy_of_the_other_kind_is_in_the_way(filled: Project, tracking_uri: str, tmp_path: Path) -> None:
    directory, file = (mlflow.data.from_dvc(path).source for path in ("data/images", "data/train.csv"))
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "images").write_text("a file")
    (tmp_path / "there" / "train.csv").mkdir()
    with pytest.raises(DataInTheWay, match="images is a file, which this version is not; remove it"):
        directory.load(tmp_path / "there")
    with pytest.raises(DataInTheWay, match=r"train\.csv is a directory, which this version is not"):
        file.load(tmp_path / "there")


def test_it_is_loaded_by_its_address_alone_from_any_directory(
    filled: Project, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = mlflow.data.from_dvc("data/train.csv").source.uri
    monkeypatch.chdir(tmp_path)
    assert Path(resolve_dataset_source(uri).load(tmp_path / "there")).read_text() == "x,y\n1,2\n"


def test_the_address_of_an_odd_name_leads_to_it_and_to_no_other(filled: Project, tmp_path: Path) -> None:
    names = ["a b.csv", "a%20b.csv", "a", "a#1.csv", "a?rev=v1.csv"]
    for name in names:
        (filled.root / "data" / name).write_text(name)
    filled.must("add", *(f"data/{name}" for name in names))
    filled.commit()
    for name in names:
        uri = mlflow.data.from_dvc(f"data/{name}").source.uri
        assert Path(resolve_dataset_source(uri).load(tmp_path / "there")).read_text() == name


@pytest.mark.parametrize("name", ["data[1]", "all*"])
def test_a_name_that_looks_like_a_pattern_is_loaded_as_it_is(
    filled: Project, tracking_uri: str, tmp_path: Path, name: str
) -> None:
    """Beside it are names that such a pattern fits."""
    for directory in (name, "data1", "allx"):
        (filled.root / directory / "inner[2]").mkdir(parents=True)
        (filled.root / directory / "part[1].csv").write_text(directory)
        (filled.root / directory / "inner[2]" / "x*").write_text(f"in {directory}")
    filled.must("add", name, "data1", "allx")
    filled.commit()
    dataset, part = (logged(mlflow.data.from_dvc(path)) for path in (name, f"{name}/part[1].csv"))
    filled.must("push")
    for place in (".dvc/cache", name):
        shutil.rmtree(filled.root / place)
    there = Path(mlflow.data.get_source(dataset).load(tmp_path / "there"))
    found = {path.relative_to(there).as_posix(): path.read_text() for path in there.rglob("*") if path.is_file()}
    assert found == {"part[1].csv": name, "inner[2]/x*": f"in {name}"}
    assert Path(mlflow.data.get_source(part).load(tmp_path / "part")).read_text() == name


def test_a_file_in_a_tracked_directory_is_data_too(
    filled: Project, tracking_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(filled.root / "data")
    dataset = logged(mlflow.data.from_dvc("images/a.txt"))
    assert (dataset.name, dataset.digest) == ("data/images/a.txt", md5("first"))
    assert Path(mlflow.data.get_source(dataset).load(tmp_path / "there")).read_text() == "first"


def test_a_revision_can_be_named(filled: Project, tracking_uri: str) -> None:
    filled.git("tag", "v1")
    (filled.root / "data" / "train.csv").write_text("new")
    filled.must("add", "data/train.csv")
    assert mlflow.data.from_dvc("data/train.csv").digest == md5("new")
    assert mlflow.data.from_dvc("data/train.csv", rev="v1").digest == md5("x,y\n1,2\n")


def test_a_version_that_no_commit_has_comes_from_the_cache_by_its_md5(
    filled: Project, tracking_uri: str, tmp_path: Path
) -> None:
    (filled.root / "data" / "images" / "c.txt").write_text("third")
    (filled.root / "data" / "train.csv").write_text("uncommitted")
    filled.must("add", "data/images", "data/train.csv")
    images, file = (mlflow.data.from_dvc(f"data/{name}") for name in ("images", "train.csv"))
    assert not json.loads(images.source.to_json())["committed"]
    shutil.rmtree(filled.root / "data")
    there = Path(images.source.load(tmp_path / "there"))
    assert sorted(path.name for path in there.iterdir()) == ["a.txt", "b.txt", "c.txt"]
    assert Path(file.source.load(tmp_path / "there")).read_text() == "uncommitted"


def test_a_version_that_no_commit_has_comes_from_the_remote_once_it_is_pushed(
    filled: Project, tracking_uri: str, tmp_path: Path
) -> None:
    (filled.root / "data" / "images" / "c.txt").write_text("third")
    (filled.root / "data" / "train.csv").write_text("uncommitted")
    filled.must("add", "data/images", "data/train.csv")
    images, dataset = (mlflow.data.from_dvc(f"data/{name}") for name in ("images", "train.csv"))
    shutil.copytree(filled.root / ".dvc" / "cache", tmp_path / "kept")
    shutil.rmtree(filled.root / ".dvc" / "cache")
    with pytest.raises(DataUnavailable, match="no commit has this version"):
        dataset.source.load(tmp_path / "there")
    shutil.copytree(tmp_path / "kept", filled.root / ".dvc" / "cache")
    filled.must("push")
    shutil.rmtree(filled.root / ".dvc" / "cache")
    assert Path(dataset.source.load(tmp_path / "there")).read_text() == "uncommitted"
    assert (Path(images.source.load(tmp_path / "there")) / "c.txt").read_text() == "third"


def test_another_clone_gets_it_from_the_remote(
    filled: Project, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = logged(mlflow.data.from_dvc("data/images"))
    clone = filled.clone(tmp_path / "clone")
    shutil.rmtree(filled.root)
    monkeypatch.chdir(clone.root)
    there = Path(mlflow.data.get_source(dataset).load(tmp_path / "there"))
    assert (there / "b.txt").read_text() == "second"


def test_a_fresh_clone_gets_what_was_logged_from_a_store_at_its_revision(
    moto: Service, tracking_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The credentials are in the configuration of each clone, which no revision has."""
    made = Place(fresh_url(moto, "data"), moto.options).project(tmp_path / "project")
    monkeypatch.chdir(made.root)
    (made.root / "images").mkdir()
    datasets = []
    for version in ("first", "second"):
        (made.root / "train.csv").write_text(version)
        (made.root / "images" / f"{version}.txt").write_text(version)
        made.must("add", "train.csv", "images")
        made.commit()
        made.must("push")
        datasets.append([logged(mlflow.data.from_dvc(name)) for name in ("train.csv", "images")])
    clone = made.clone(tmp_path / "clone")
    shutil.rmtree(made.root)
    monkeypatch.chdir(clone.root)
    for version, (file, directory) in zip(("first", "second"), datasets, strict=True):
        there = tmp_path / version
        assert Path(mlflow.data.get_source(file).load(there)).read_text() == version
        names = sorted(path.name for path in Path(mlflow.data.get_source(directory).load(there)).iterdir())
        assert names == ["first.txt", "second.txt"][: len(names)]
        assert len(names) == (1 if version == "first" else 2)


def test_data_that_was_altered_in_the_remote_is_not_taken_for_what_was_logged(
    filled: Project, tracking_uri: str, tmp_path: Path
) -> None:
    dataset = mlflow.data.from_dvc("data/train.csv")
    digest = dataset.digest
    shutil.rmtree(filled.root / ".dvc" / "cache")
    stored = tmp_path / "remote" / "files" / "md5" / digest[:2] / digest[2:]
    stored.chmod(0o644)
    stored.write_text("x,y\n6,6\n")
    with pytest.raises(DataAltered, match=r"data/train.csv .* has md5 .* but .* was recorded; fetch it again"):
        dataset.source.load(tmp_path / "there")


def test_data_that_nobody_pushed_is_told_by_its_name(filled: Project, tracking_uri: str, tmp_path: Path) -> None:
    sources = [mlflow.data.from_dvc(f"data/{name}").source for name in ("train.csv", "images")]
    for place in (filled.root / ".dvc" / "cache", tmp_path / "remote"):
        shutil.rmtree(place)
    for source in sources:
        with pytest.raises(DataUnavailable, match=rf"{source.data.path} of .* cannot be read.*with 'dvc push'"):
            source.load(tmp_path / "there")
    with pytest.raises(DataUnavailable, match=r"data/images/a.txt in .* cannot be looked up.*with 'dvc push'"):
        mlflow.data.from_dvc("data/images/a.txt", rev="HEAD")


def test_a_password_in_the_address_of_the_repository_is_not_recorded(filled: Project) -> None:
    filled.git("remote", "add", "origin", "https://someone:secret@example.org/project.git")
    source = mlflow.data.from_dvc("data/train.csv").source
    assert source.data.repo == "https://example.org/project.git"
    assert "secret" not in source.to_json()


def test_data_that_differs_from_what_dvc_recorded_is_refused(filled: Project) -> None:
    (filled.root / "data" / "train.csv").write_text("changed by hand")
    with pytest.raises(DataChanged, match=r"data/train.csv is not what DVC has recorded.*run 'dvc commit"):
        mlflow.data.from_dvc("data/train.csv")


def test_what_dvc_does_not_track_is_refused(filled: Project, tmp_path: Path) -> None:
    (filled.root / "notes.txt").write_text("by hand")
    for path in ("notes.txt", "nowhere.csv"):
        with pytest.raises(DataUntracked, match=f"DVC does not track {path}"):
            mlflow.data.from_dvc(path)
    with pytest.raises(DataUntracked, match="is in no DVC project"):
        mlflow.data.from_dvc(tmp_path / "elsewhere.csv")


def test_a_revision_or_repository_that_is_not_there_is_told_in_one_line(filled: Project, tmp_path: Path) -> None:
    for arguments in ({"rev": "v9"}, {"repo": str(tmp_path / "nothing")}):
        with pytest.raises(ShardflowError) as caught:
            mlflow.data.from_dvc("data/train.csv", **arguments)
        assert "\n" not in str(caught.value)
        assert "check the repository and the revision" in str(caught.value)


@pytest.mark.parametrize(
    "raw", ["data/train.csv", "s3://bucket/x", "dvcx:y", "https://example.org/x", 7, None, Path("dvc")]
)
def test_only_addresses_that_begin_with_dvc_are_resolved(raw: object) -> None:
    assert not DvcDatasetSource._can_resolve(raw)


def test_the_addresses_are_resolved_by_no_other_source() -> None:
    willing = [source for source in get_registered_sources() if source._can_resolve("dvc:data/train.csv?rev=v1")]
    assert willing == [DvcDatasetSource]


def test_addresses_name_path_project_and_revision() -> None:
    assert parsed("dvc:data/train.csv") == ("data/train.csv", None, None)
    assert parsed("dvc://data/my%20table.csv?rev=v1") == ("data/my table.csv", None, "v1")
    assert parsed("dvc:x?repo=git@example.org:a/b.git&rev=") == ("x", "git@example.org:a/b.git", None)
    for bad in ("dvc:", "dvc:x?branch=main"):
        with pytest.raises(BadAddress, match="does not name data of DVC"):
            parsed(bad)
    with pytest.raises(BadAddress, match="write a # in a name as %23"):
        parsed("dvc:data/a#1.csv")


GOOD = {"repo": "somewhere", "path": "a/b", "rev": None, "md5": "0" * 32, "committed": True}


@pytest.mark.parametrize(
    "change",
    [{"path": "../b"}, {"path": "/etc/passwd"}, {"md5": "x"}, {"repo": "ext::touch bad"}, {"repo": "--upload-pack=x"}],
)
def test_a_hostile_source_is_refused_before_anything_is_run(change: dict[str, str]) -> None:
    assert tracked_from({**GOOD, "added later": 1}).path == "a/b"
    with pytest.raises(DataUnavailable, match="cannot be data of DVC"):
        DvcDatasetSource.from_dict({**GOOD, **change})


def test_a_source_with_a_part_missing_is_refused() -> None:
    with pytest.raises(DataUnavailable, match="incomplete"):
        DvcDatasetSource.from_dict({"path": "a"})


def test_importing_mlflow_with_these_plugins_does_not_import_dvc_or_torch() -> None:
    code = "import mlflow, sys; mlflow.data.from_dvc; print(*sorted({'dvc', 'dvc_data', 'torch'} & set(sys.modules)))"
    command = [sys.executable, "-W", "error::UserWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("first", ["import mlflow.data", "from shardflow.dvc.datasets import DvcDatasetSource"])
def test_whoever_is_imported_first_mlflow_knows_the_source(first: str) -> None:
    program = f"{first}\nimport mlflow.data\nmlflow.data.from_dvc"
    subprocess.run([sys.executable, "-W", "error::UserWarning:mlflow", "-c", program], check=True)
