"""MLflow's artifact repository over a store, at every depth that MLflow roots it at."""

from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from shardflow.artifacts.places import artifact_root
from shardflow.artifacts.repository import ShardflowArtifactRepository
from shardflow.store.store import Store
from shardflow.transport import StoreURL

RUN = "1/0123456789abcdef0123456789abcdef/artifacts"
MODEL = "1/models/m-0123456789abcdef0123456789abcdef"
DEPTHS = ("", RUN, MODEL, f"{MODEL}/artifacts", f"{RUN}/deeper/still")
_numbers = itertools.count()


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"shardflow://file{tmp_path}/store" if request.param == "file" else f"shardflow://memory/a{next(_numbers)}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}")
    (folder / "data" / "weights.bin").write_bytes(bytes(range(256)) * 4096)
    return folder


def repository(uri: str) -> ShardflowArtifactRepository:
    found = get_artifact_repository(uri)
    assert isinstance(found, ShardflowArtifactRepository)
    return found


@pytest.mark.parametrize("depth", DEPTHS)
def test_what_is_logged_at_any_depth_is_listed_and_comes_back(
    place: str, depth: str, folder: Path, tmp_path: Path
) -> None:
    Store.init(place)
    artifacts = repository(f"{place}/{depth}".rstrip("/"))
    artifacts.log_artifacts(str(folder), "m")
    artifacts.log_artifact(str(folder / "MLmodel"))
    assert [(info.path, info.is_dir, info.file_size) for info in artifacts.list_artifacts()] == [
        ("MLmodel", False, 11),
        ("m", True, None),
    ]
    assert [info.path for info in artifacts.list_artifacts("m/data")] == ["m/data/weights.bin"]
    (tmp_path / "out").mkdir()
    fetched = Path(artifacts.download_artifacts("m", str(tmp_path / "out")))
    assert fetched == tmp_path / "out" / "m"
    assert (fetched / "data" / "weights.bin").read_bytes() == (folder / "data" / "weights.bin").read_bytes()


def test_a_model_is_found_from_its_parent_and_from_the_root(place: str, folder: Path) -> None:
    repository(f"{place}/{MODEL}/artifacts").log_artifacts(str(folder))
    for root, path in ((place, f"{MODEL}/artifacts/MLmodel"), (f"{place}/{MODEL}", "artifacts/MLmodel")):
        assert Path(repository(root).download_artifacts(path)).read_text() == "flavors: {}"


@pytest.mark.parametrize("depth", [RUN, f"{MODEL}/artifacts"])
def test_a_first_write_makes_a_store_where_the_artifact_root_begins_and_says_so(
    place: str, depth: str, folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)
    with caplog.at_level(logging.INFO, "mlflow.shardflow"):
        repository(f"{place}/{depth}").log_artifacts(str(folder))
    assert f"made one at {place}" in caplog.text
    assert str(Store.find(f"{place}/{depth}")[0].url) == place


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/data/1", "/data/1"),
        ("/data/1/" + "0" * 32 + "/artifacts/x/y", "/data"),
        ("/data/mine/" + "0" * 32, "/data/mine"),
        ("/data/1/traces/tr-" + "0" * 32 + "/artifacts", "/data"),
        ("/1/" + "0" * 32 + "/artifacts", "/1"),
    ],
)
def test_the_artifact_root_is_told_from_what_mlflow_hangs_below_it(path: str, root: str) -> None:
    assert artifact_root(StoreURL("file", path)).path == root


def test_nothing_logged_lists_nothing_and_a_file_lists_nothing(place: str, folder: Path) -> None:
    artifacts = repository(f"{place}/{RUN}")
    assert artifacts.list_artifacts() == []
    artifacts.log_artifact(str(folder / "MLmodel"))
    assert artifacts.list_artifacts("MLmodel") == []
    assert artifacts.list_artifacts("absent") == []


def test_what_is_missing_is_refused_and_leaves_no_file(place: str, folder: Path, tmp_path: Path) -> None:
    artifacts = repository(f"{place}/{RUN}")
    (tmp_path / "out").mkdir()
    for _ in range(2):
        with pytest.raises(MlflowException) as refused:
            artifacts.download_artifacts("absent", str(tmp_path / "out"))
        assert refused.value.error_code == "RESOURCE_DOES_NOT_EXIST"
        artifacts.log_artifacts(str(folder))
    with pytest.raises(MlflowException, match="name a file in it: "):
        artifacts._download_file("data", str(tmp_path / "out" / "data"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/passwd", "a//b", "a/\0"])
def test_a_path_that_leads_elsewhere_is_an_invalid_parameter(place: str, folder: Path, path: str) -> None:
    Store.init(place)
    artifacts = repository(f"{place}/{RUN}")
    acts = [artifacts.list_artifacts, artifacts.download_artifacts, artifacts.delete_artifacts]
    acts.append(lambda path: artifacts.log_artifacts(str(folder), path))
    for act in acts:
        with pytest.raises(MlflowException) as refused:
            act(path)
        assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize("uri", ["shardflow:///tmp/x", "shardflow://ftp/x", "shardflow://file/a/../b"])
def test_a_wrong_uri_is_an_invalid_parameter(uri: str) -> None:
    with pytest.raises(MlflowException) as refused:
        get_artifact_repository(uri)
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"


def test_deleting_removes_names_and_no_chunks_and_may_be_repeated(place: str, folder: Path) -> None:
    artifacts = repository(f"{place}/{RUN}")
    artifacts.log_artifacts(str(folder))
    store, _ = Store.find(place)
    packs = [info.key for info in store.transport.list("packs/")]
    artifacts.delete_artifacts("MLmodel")
    assert [info.path for info in artifacts.list_artifacts()] == ["data"]
    for _ in range(2):
        artifacts.delete_artifacts()
    assert artifacts.list_artifacts() == []
    assert packs
    assert [info.key for info in store.transport.list("packs/")] == packs


def test_many_threads_log_at_once_into_a_store_that_none_of_them_found(place: str, tmp_path: Path) -> None:
    artifacts = repository(f"{place}/{RUN}")
    files = [tmp_path / f"{number:03}.txt" for number in range(64)]
    for file in files:
        file.write_text(file.name)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: artifacts.log_artifact(str(file), "texts"), files))
    assert [info.path for info in artifacts.list_artifacts("texts")] == [f"texts/{file.name}" for file in files]
    assert len(list(Path(artifacts.download_artifacts("texts")).iterdir())) == 64


def test_a_store_that_was_removed_is_made_again_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    place = f"shardflow://file{tmp_path}/store"
    repository(f"{place}/{RUN}").log_artifacts(str(folder))
    (tmp_path / "store" / "shardflow.json").unlink()
    (tmp_path / "store").rename(tmp_path / "gone")
    repository(f"{place}/{RUN}").log_artifacts(str(folder))
    assert (tmp_path / "store" / "shardflow.json").exists()
