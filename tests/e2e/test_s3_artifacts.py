"""A live MLflow server whose artifacts are in a store on S3: Ceph's gateway, which asks for credentials."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from flavor.models import NET, net, same
from services.fixtures import fresh_url
from services.mlflow_commands import mlflow_says
from services.mlflow_server import MlflowServer, used
from services.service import Service
from shardflow import flavor
from shardflow.store.store import Store

pytestmark = pytest.mark.slow
OPTIONS = {"direct": "--default-artifact-root", "proxied": "--artifacts-destination"}


@pytest.fixture(scope="module")
def store_urls(ceph: Service) -> dict[str, str]:
    return {mode: fresh_url(ceph) for mode in OPTIONS}


@pytest.fixture(scope="module")
def servers(
    ceph: Service, store_urls: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, MlflowServer]]:
    made = {
        mode: MlflowServer(tmp_path_factory.mktemp(mode), option, store_urls[mode], environment=ceph.env)
        for mode, option in OPTIONS.items()
    }
    with made["direct"], made["proxied"]:
        yield made


@pytest.fixture
def client(ceph: Service, servers: dict[str, MlflowServer], monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowServer]:
    """The server whose clients need the credentials, in a process that has them."""
    for name, value in ceph.env.items():
        monkeypatch.setenv(name, value)
    with used(servers["direct"]) as server:
        yield server


def test_a_model_is_logged_to_s3_listed_loaded_and_predicts(client: MlflowServer) -> None:
    module = net(width=256)
    with mlflow.start_run():
        info = flavor.log_model(
            module, name="net", factory=NET, factory_arguments={"width": 256}, max_shard_bytes=1_000_000,
            registered_model_name="net",
        )  # fmt: skip
    assert same(flavor.load_model("models:/net/1"), module)
    directories = f"ajax-api/2.0/mlflow/logged-models/{info.model_id}/artifacts/directories"
    listed = json.loads(client.get(directories, artifact_directory_path="weights"))
    assert {file["path"] for file in listed["files"]} >= {"weights/recipe.json", "weights/model.safetensors.index.json"}
    words = np.array([[1, 2, 3]])
    wanted = module(torch.from_numpy(words)).detach().numpy()
    assert np.array_equal(mlflow.pyfunc.load_model(info.model_uri).predict(words), wanted)


def test_a_second_version_on_s3_is_a_delta_of_the_first(client: MlflowServer) -> None:
    module = net(3, width=256)
    arguments = {"name": "net", "factory": NET, "factory_arguments": {"width": 256}}
    flavor.log_model(module, **arguments)
    with torch.no_grad():
        module.layers[1].mlp.weight.mul_(1.001)
    second = flavor.log_model(module, **arguments)
    tags = mlflow.get_logged_model(second.model_id).tags
    assert tags["shardflow.tensors_changed"] == "1"
    assert int(tags["shardflow.bytes_sent"]) < 0.15 * 4_149_248
    assert same(flavor.load_model(second.model_uri), module)


def test_a_client_without_credentials_logs_and_loads_through_the_server(
    servers: dict[str, MlflowServer], store_urls: dict[str, str], tmp_path: Path
) -> None:
    assert "AWS_ACCESS_KEY_ID" not in os.environ
    with used(servers["proxied"]):
        with mlflow.start_run() as run:
            mlflow.log_text("hello", "notes.txt")
            info = flavor.log_model(net(), name="net", factory=NET)
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/notes.txt") == "hello"
        assert same(flavor.load_model(info.model_uri), net())


def test_deleted_artifacts_are_gone_and_their_bytes_stay(client: MlflowServer) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "kept/notes.txt")
        mlflow.log_dict({"large": "x" * 200_000}, "gone/large.json")
    store, _ = Store.find(run.info.artifact_uri)
    packs = {info.key for info in store.transport.list("packs/")}
    repository = get_artifact_repository(run.info.artifact_uri)
    repository.delete_artifacts("gone")
    assert [file.path for file in repository.list_artifacts()] == ["kept"]
    assert repository.list_artifacts("gone") == []
    assert {info.key for info in store.transport.list("packs/")} == packs


def test_mlflow_gc_removes_the_names_of_deleted_runs_and_models(client: MlflowServer, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "notes.txt")
        model = flavor.log_model(net(), name="net", factory=NET)
    logged = mlflow.get_logged_model(model.model_id)
    mlflow.delete_run(run.info.run_id)
    mlflow.MlflowClient().delete_logged_model(model.model_id)
    command = ["gc", "--backend-store-uri", client.database]
    command += ["--run-ids", run.info.run_id, "--logged-model-ids", model.model_id]
    code, said = mlflow_says(command, tmp_path / "log", {"MLFLOW_TRACKING_URI": client.uri})
    assert code == 0, said
    for uri in (run.info.artifact_uri, logged.artifact_location):
        store, path = Store.find(uri)
        assert not list(store.transport.list(f"tree/{path}/")), uri
