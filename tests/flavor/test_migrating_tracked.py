"""Versions that MLflow knows come into a store, are told where they are now, and are registered anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PythonModel
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from flavor.models import NET, net, same
from flavor.outside import done_id, fetched, log_three, tree
from shardflow import flavor
from shardflow.flavor.migrating import MigrationRefused
from shardflow.flavor.moving import tracked
from shardflow.flavor.moving.tracked import MOVED_FROM, MOVED_TO
from shardflow.store.store import Store


def test_the_versions_of_a_registered_model_are_found_again(large: Store, elsewhere: str, tmp_path: Path) -> None:
    name = f"net of {elsewhere}"
    log_three(name)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, "best", "2")
    client.set_model_version_tag(name, "2", "accuracy", "0.9")
    client.update_model_version(name, "2", "the best so far")
    done = flavor.migrate(f"{large.url}/registry", model=name, register_as=f"{name} stored")
    assert [version.source for version in done.versions] == [f"models:/{name}/{number}" for number in (1, 2, 3)]
    assert [version.registered for version in done.versions] == ["1", "2", "3"]
    for number in (1, 2, 3):
        url = f"{large.url}/registry/{name}/{number}"
        old = client.get_model_version(name, str(number))
        new = client.get_model_version(f"{name} stored", str(number))
        assert old.tags[MOVED_TO] == url
        assert mlflow.get_logged_model(done_id(old)).tags[MOVED_TO] == url
        assert (new.source, new.tags[MOVED_FROM]) == (url, f"models:/{name}/{number}")
        assert MOVED_TO not in new.tags
        assert same(flavor.load_model(f"models:/{name} stored/{number}"), net(number - 1))
        assert same(flavor.load_model(f"models:/{name}/{number}"), net(number - 1))
    best = client.get_model_version_by_alias(f"{name} stored", "best")
    assert (str(best.version), best.tags["accuracy"], best.description) == ("2", "0.9", "the best so far")
    assert mlflow.pyfunc.load_model(f"models:/{name} stored@best").predict(torch.ones(2, 3).numpy()).shape == (
        2,
        3,
        100,
    )

    again = flavor.migrate(f"{large.url}/registry", model=name, register_as=f"{name} stored")
    assert [(version.state, version.registered) for version in again.versions] == [
        ("was there", number) for number in ("1", "2", "3")
    ]
    assert len(client.search_model_versions(f"name='{name} stored'")) == 3


def test_new_versions_may_be_of_the_same_model(large: Store, elsewhere: str) -> None:
    name = f"net of {elsewhere}"
    log_three(name)
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(name, "best", "2")
    done = flavor.migrate(str(large.url), model=name, register_as=name)
    assert [version.registered for version in done.versions] == ["4", "5", "6"]
    assert str(client.get_model_version_by_alias(name, "best").version) == "2"
    assert same(flavor.load_model(f"models:/{name}/6"), net(2))
    again = flavor.migrate(str(large.url), model=name, register_as=name)
    assert [version.registered for version in again.versions] == ["4", "5", "6"]


@pytest.fixture
def own_registry(tracking_uri: str, tmp_path: Path) -> Iterator[str]:
    """The name of an experiment in an ordinary directory, where models are registered in Shardflow's registry."""
    database = shutil.copy(tracking_uri.removeprefix("sqlite:///"), tmp_path / "registry.db")
    before = mlflow.get_registry_uri()
    mlflow.set_tracking_uri(f"sqlite:///{database}")
    mlflow.set_registry_uri(f"shardflow-sqlite:///{database}")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(tmp_path.name, (tmp_path / "artifacts").as_uri()))
    yield "llama"
    mlflow.set_registry_uri(before)


@pytest.mark.parametrize(("name", "numbers"), [("llama stored", ["1", "2", "3"]), ("llama", ["4", "5", "6"])])
def test_shardflows_own_registry_takes_the_tags_and_begins_each_copy_as_a_draft(
    large: Store, own_registry: str, name: str, numbers: list[str]
) -> None:
    log_three(own_registry)
    client = mlflow.MlflowClient()
    client.set_model_version_tag("llama", "2", "shardflow.version", "1.4.0-rc-1")
    client.set_model_version_tag("llama", "2", "shardflow.parents", '[{"model": "llama", "version": 1}]')
    client.set_model_version_tag("llama", "2", "shardflow.deployment", '{"target": "eu"}')
    client.set_model_version_tag("llama", "2", "shardflow.status", "testing")
    client.set_registered_model_alias("llama", "best", "2")
    done = flavor.migrate(f"{large.url}/registry", model="llama", register_as=name)
    assert [version.problem for version in done.versions] == ["", "", ""]
    assert [version.registered for version in done.versions] == numbers
    old, new = client.get_model_version("llama", "2"), client.get_model_version(name, numbers[1])
    assert old.tags["shardflow.status"] == "testing"
    assert old.tags[MOVED_TO] == new.source == f"{large.url}/registry/llama/2"
    assert {key: value for key, value in new.tags.items() if key.startswith("shardflow.")} == {
        "shardflow.status": "draft",
        "shardflow.parents": old.tags["shardflow.parents"],
        MOVED_FROM: "models:/llama/2",
        **({} if name == "llama" else {"shardflow.version": "1.4.0-rc-1"}),
    }
    aliases = client.get_registered_model(name).aliases
    if name == "llama":
        assert str(aliases["best"]) == "2"
    else:
        assert {alias: str(number) for alias, number in aliases.items()} == {"best": "2", "v1-4-0-rc-1": "2"}
    again = flavor.migrate(f"{large.url}/registry", model="llama", register_as=name)
    assert [version.registered for version in again.versions] == numbers


def test_the_models_of_an_experiment_come_under_the_paths_that_mlflow_gives_them(
    large: Store, elsewhere: str, tmp_path: Path
) -> None:
    class Twice(PythonModel):
        def predict(self, model_input: list[float]) -> list[float]:
            return [2 * number for number in model_input]

    made = [flavor.log_model(net(seed), name="net", factory=NET).model_id for seed in range(2)]
    made.append(mlflow.pyfunc.log_model(name="twice", python_model=Twice(), pip_requirements=[]).model_id)
    unfinished = mlflow.initialize_logged_model(name="unfinished")
    done = flavor.migrate(f"{large.url}/artifacts", experiment=elsewhere)
    assert [version.name for version in done.versions[:3]] == [f"models/{model_id}/artifacts" for model_id in made]
    failed = done.versions[3]
    assert (failed.state, failed.problem) == (
        "failed",
        f"models:/{unfinished.model_id} cannot be moved: it is pending, not ready",
    )
    for model_id in made:
        url = mlflow.get_logged_model(model_id).tags[MOVED_TO]
        assert url == f"{large.url}/artifacts/models/{model_id}/artifacts"
        original = mlflow.get_logged_model(model_id).artifact_location.removeprefix("file://")
        back = fetched(large, f"artifacts/models/{model_id}/artifacts", tmp_path / model_id)
        assert back == tree(Path(original))
    assert mlflow.pyfunc.load_model(f"{large.url}/artifacts/models/{made[2]}/artifacts").predict([1.0, 2.0]) == [
        2.0,
        4.0,
    ]


def test_a_version_whose_files_are_gone_does_not_stop_the_others(large: Store, elsewhere: str) -> None:
    name = f"net of {elsewhere}"
    log_three(name)
    client = mlflow.MlflowClient()
    location = mlflow.get_logged_model(done_id(client.get_model_version(name, "2"))).artifact_location
    shutil.rmtree(location.removeprefix("file://"))
    done = flavor.migrate(str(large.url), model=name, register_as=f"{name} stored")
    assert [version.state for version in done.versions] == ["moved", "failed", "moved"]
    assert "does not exist" in done.versions[1].problem
    assert [version.registered for version in done.versions] == ["", "", ""]
    done = flavor.migrate(str(large.url), model=name, register_as=f"{name} stored", allow_missing=True)
    assert [version.registered for version in done.versions] == ["1", "", "2"]


def test_what_only_mlflow_can_fetch_is_downloaded_a_file_at_a_time(
    large: Store, elsewhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the artifacts were on a server: MLflow's repository serves them, and the disk is not looked at."""
    info = flavor.log_model(net(), name="net", factory=NET, sharding="layers", max_shard_bytes=100_000)
    location = mlflow.get_logged_model(info.model_id).artifact_location
    held: list[int] = []

    class Far:
        def __init__(self) -> None:
            self.near = get_artifact_repository(location)

        def list_artifacts(self, path: str | None) -> object:
            return self.near.list_artifacts(path)

        def download_artifacts(self, path: str, dst_path: str) -> str:
            held.append(sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()))
            target = Path(dst_path) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(location.removeprefix("file://"), path).read_bytes())
            return str(target)

    scratch = tmp_path / "scratch"
    scratch.mkdir()
    dead = scratch / f"shardflow-migrate-{os.uname().nodename}-99999999-abc"
    dead.mkdir()
    (dead / "weights").write_bytes(b"left by a killed run")
    monkeypatch.setattr(tracked, "located", lambda _: "https://example.test/artifacts")
    monkeypatch.setattr(tracked, "get_artifact_repository", lambda _: Far())
    done = flavor.migrate(str(large.url), experiment=elsewhere, scratch=scratch)
    assert done.versions[0].state == "moved"
    assert len(held) == done.versions[0].files > 8
    assert set(held) == {0}
    assert list(scratch.iterdir()) == []
    assert same(flavor.load_model(done.versions[0].url), net())
    assert flavor.migrate(str(large.url), experiment=elsewhere, scratch=scratch).versions[0].state == "was there"


def test_a_policy_that_refuses_the_registration_is_told(
    large: Store, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"net of {elsewhere}"
    log_three(name)

    def refuse(*_: object, **__: object) -> None:
        raise MlflowException("only reviewed models are registered")

    monkeypatch.setattr(mlflow.MlflowClient, "create_model_version", refuse)
    with pytest.raises(MigrationRefused, match="only reviewed models"):
        flavor.migrate(str(large.url), model=name, register_as="other")
