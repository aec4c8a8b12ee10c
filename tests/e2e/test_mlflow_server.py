"""A live MLflow server whose artifacts are in a store: clients that write to it themselves, and through the server."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from services.process import ServerProcess, answers, free_port
from shardflow.store.store import Store

pytestmark = pytest.mark.slow
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
CONTENT = random.Random(7).randbytes(64 << 20)


@dataclass(frozen=True)
class Server:
    uri: str
    store: str
    database: str

    def get(self, path: str, /, **query: str) -> bytes:
        with urllib.request.urlopen(f"{self.uri}/{path}?{urllib.parse.urlencode(query)}", timeout=30) as answer:
            return bytes(answer.read())


def begun(directory: Path, mode: str) -> tuple[ServerProcess, Server]:
    port, store = free_port(), f"shardflow://file{directory}/store"
    database = f"sqlite:///{directory}/mlflow.db"
    argv = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    argv += ["--backend-store-uri", database, mode, store]
    environment = {**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    return ServerProcess(argv, directory / "log", environment), Server(f"http://127.0.0.1:{port}", store, database)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """Both kinds; they take their time to start, so they take it together."""
    modes = {"direct": "--default-artifact-root", "proxied": "--artifacts-destination"}
    both = {name: begun(tmp_path_factory.mktemp(name), option) for name, option in modes.items()}
    try:
        for process, server in both.values():
            process.wait_until(lambda server=server: answers(f"{server.uri}/health"), 120)
        yield {name: server for name, (_, server) in both.items()}
    finally:
        for process, _ in both.values():
            process.stop()
        mlflow.set_tracking_uri("")
        mlflow.set_registry_uri("")


@pytest.fixture(params=["direct", "proxied"])
def server(request: pytest.FixtureRequest, servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    return used(servers[request.param], monkeypatch)


@pytest.fixture
def direct(servers: dict[str, Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    return used(servers["direct"], monkeypatch)


def used(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(server.uri)
    mlflow.set_registry_uri(server.uri)
    mlflow.set_experiment(experiment_id="0")
    return server


def test_a_run_logs_and_the_server_shows_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(CONTENT[: 3 << 20])
    with mlflow.start_run() as run:
        mlflow.log_dict({"a": 1}, "settings/a.json")
        mlflow.log_text("hello", "notes.txt")
        mlflow.log_artifact(str(tmp_path / "big.bin"), "data")
    identity = run.info.run_id
    listed = json.loads(server.get("ajax-api/2.0/mlflow/artifacts/list", run_id=identity))
    assert [(file["path"], file["is_dir"]) for file in listed["files"]] == [
        ("data", True),
        ("notes.txt", False),
        ("settings", True),
    ]
    assert server.get("get-artifact", run_id=identity, path="notes.txt") == b"hello"
    assert server.get("get-artifact", run_id=identity, path="data/big.bin") == CONTENT[: 3 << 20]
    fetched = mlflow.artifacts.download_artifacts(run_id=identity, artifact_path="settings", dst_path=str(tmp_path))
    assert json.loads(Path(fetched, "a.json").read_text()) == {"a": 1}
    assert Store.find(server.store)[0].stat().files >= 3


def test_a_model_of_sklearn_is_logged_unchanged_registered_and_loaded(server: Server) -> None:
    from sklearn.linear_model import LinearRegression

    inputs = np.arange(8.0).reshape(4, 2)
    model = LinearRegression().fit(inputs, inputs.sum(axis=1))
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(model, name="line", registered_model_name="line")
    for uri in (info.model_uri, "models:/line/1"):
        assert np.allclose(mlflow.pyfunc.load_model(uri).predict(inputs), inputs.sum(axis=1))


def test_a_module_of_torch_is_logged_unchanged_and_loaded(direct: Server) -> None:
    import torch

    module = torch.nn.Linear(3, 2)
    with mlflow.start_run():
        info = mlflow.pytorch.log_model(module, name="linear", serialization_format="pickle")
    loaded: Any = mlflow.pytorch.load_model(info.model_uri)
    assert torch.equal(loaded.weight, module.weight)


def test_a_log_killed_midway_and_run_again_sends_what_was_missing(direct: Server, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(CONTENT)
    with mlflow.start_run() as run:
        pass
    program = "import mlflow, sys; mlflow.MlflowClient(sys.argv[1]).log_artifacts(sys.argv[2], sys.argv[3])"
    command = [sys.executable, "-c", program, direct.uri, run.info.run_id, str(tmp_path / "model")]
    store = Store.find(direct.store)[0]
    before = {info.key for info in store.transport.list("packs/")}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not {info.key for info in store.transport.list("packs/")} - before:
        time.sleep(0.005)
    process.kill()
    process.wait()
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    fetched = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="weights.bin")
    assert Path(fetched).read_bytes() == CONTENT
    sent = sum(info.size for info in store.transport.list("packs/") if info.key not in before)
    assert sent < len(CONTENT) * 1.05


def test_gc_of_a_deleted_run_removes_its_names_and_no_pack(direct: Server, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(random.Random(8).randbytes(1 << 20))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "big.bin"))
    store, path = Store.find(run.info.artifact_uri)
    packs = {info.key for info in store.transport.list("packs/")}
    mlflow.delete_run(run.info.run_id)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", direct.database]
    command += ["--run-ids", run.info.run_id]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": direct.uri}
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=environment)
    assert not list(store.transport.list(f"tree/{path}/"))
    assert {info.key for info in store.transport.list("packs/")} == packs
