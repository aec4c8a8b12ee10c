"""A live MLflow server whose artifacts are in a store: clients that write to it themselves, and through the server."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from e2e.conftest import Live
from services.mlflow_commands import mlflow_says
from shardflow.store.store import Store

pytestmark = pytest.mark.slow
CONTENT = random.Random(7).randbytes(64 << 20)


def test_a_run_logs_and_the_server_shows_it(live: Live, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(CONTENT[: 3 << 20])
    with mlflow.start_run() as run:
        mlflow.log_dict({"a": 1}, "settings/a.json")
        mlflow.log_text("hello", "notes.txt")
        mlflow.log_artifact(str(tmp_path / "big.bin"), "data")
    identity = run.info.run_id
    listed = json.loads(live.server.get("ajax-api/2.0/mlflow/artifacts/list", run_id=identity))
    assert [(file["path"], file["is_dir"]) for file in listed["files"]] == [
        ("data", True),
        ("notes.txt", False),
        ("settings", True),
    ]
    assert live.server.get("get-artifact", run_id=identity, path="notes.txt") == b"hello"
    assert live.server.get("get-artifact", run_id=identity, path="data/big.bin") == CONTENT[: 3 << 20]
    fetched = mlflow.artifacts.download_artifacts(run_id=identity, artifact_path="settings", dst_path=str(tmp_path))
    assert json.loads(Path(fetched, "a.json").read_text()) == {"a": 1}
    assert Store.find(live.store)[0].stat().files >= 3


def test_a_log_killed_midway_and_run_again_sends_what_was_missing(direct: Live, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(CONTENT)
    with mlflow.start_run() as run:
        pass
    program = "import mlflow, sys; mlflow.MlflowClient(sys.argv[1]).log_artifacts(sys.argv[2], sys.argv[3])"
    command = [sys.executable, "-c", program, direct.server.uri, run.info.run_id, str(tmp_path / "model")]
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


def test_figures_texts_and_tables_are_artifacts_like_any_other(live: Live, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([3.0, 1.5, 1.0])
    with mlflow.start_run() as run:
        mlflow.log_figure(figure, "curves/loss.png")
        mlflow.log_text("größer", "notes/a text.md")
        mlflow.log_dict({"layers": [1, 2]}, "net.yaml")
        mlflow.log_table({"step": [1, 2], "loss": [3.0, 1.5]}, "losses.json")
        mlflow.log_table({"step": [3], "loss": [1.0]}, "losses.json")  # reads it, and writes it again
    uri = run.info.artifact_uri
    assert mlflow.artifacts.load_text(f"{uri}/notes/a text.md") == "größer"
    assert mlflow.load_table("losses.json", run_ids=[run.info.run_id])["loss"].tolist() == [3.0, 1.5, 1.0]
    fetched = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(tmp_path)))
    files = sorted(str(file.relative_to(fetched)) for file in fetched.rglob("*") if file.is_file())
    assert files == ["curves/loss.png", "losses.json", "net.yaml", "notes/a text.md"]
    assert (fetched / "curves" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_deleting_artifacts_removes_their_names_and_no_pack_whoever_writes_to_the_store(
    live: Live, tmp_path: Path
) -> None:
    (tmp_path / "big.bin").write_bytes(random.Random(9).randbytes(1 << 20))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "big.bin"), "gone")
        mlflow.log_text("hello", "kept/notes.txt")
    store = Store.find(live.store)[0]
    packs = {info.key for info in store.transport.list("packs/")}
    repository = get_artifact_repository(run.info.artifact_uri)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:" if live.mode == "proxied" else "shardflow:")
    repository.delete_artifacts("gone")
    assert [file.path for file in repository.list_artifacts()] == ["kept"]
    listed = json.loads(live.server.get("ajax-api/2.0/mlflow/artifacts/list", run_id=run.info.run_id))
    assert [file["path"] for file in listed["files"]] == ["kept"]
    assert not [entry for entry in store.ls(recursive=True) if f"{run.info.run_id}/artifacts/gone" in entry.path]
    assert packs
    assert {info.key for info in store.transport.list("packs/")} == packs


def test_gc_of_a_deleted_run_removes_its_names_and_no_pack(direct: Live, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(random.Random(8).randbytes(1 << 20))
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "big.bin"))
    store, path = Store.find(run.info.artifact_uri)
    packs = {info.key for info in store.transport.list("packs/")}
    mlflow.delete_run(run.info.run_id)
    command = ["gc", "--backend-store-uri", direct.server.database, "--run-ids", run.info.run_id]
    code, said = mlflow_says(command, tmp_path / "log", {"MLFLOW_TRACKING_URI": direct.server.uri})
    assert code == 0, said
    assert not list(store.transport.list(f"tree/{path}/"))
    assert {info.key for info in store.transport.list("packs/")} == packs
