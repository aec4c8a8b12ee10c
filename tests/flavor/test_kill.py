"""SIGKILL in the middle of log_model, then the same again: the model ends READY, and what arrived is not sent again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import torch

from shardflow import flavor
from shardflow.store.config import Settings
from shardflow.store.store import Store

PACK = 1 << 20
IN_HAND = 4
"""Packs that may be on their way at once: sent again, or there already without a note of it."""
LOG = """
import sys
import mlflow
from flavor.test_kill import weights
from shardflow import flavor

mlflow.set_tracking_uri(sys.argv[1])
flavor.log_model(weights(), name="large", model_id=sys.argv[2])
"""


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {f"layers.{n}.weight": torch.randint(0, 256, (1024, 1024), dtype=torch.uint8) for n in range(30)}


def log(tracking_uri: str, model_id: str) -> subprocess.Popen[bytes]:
    roots = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", LOG, tracking_uri, model_id],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": roots},
    )


def packs(store: Store) -> dict[str, float]:
    return {info.key: info.modified for info in store.transport.list("packs/")}


def test_a_killed_log_model_is_finished_by_running_it_again(tmp_path: Path, tracking_uri: str) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), Settings(pack_bytes=PACK, chunk_bytes=PACK))
    experiment = mlflow.create_experiment(f"killed {tmp_path}", artifact_location=f"{store.url}/artifacts")
    model = mlflow.MlflowClient().create_logged_model(experiment, name="large")

    first = log(tracking_uri, model.model_id)
    while first.poll() is None and len(packs(store)) < 10:
        time.sleep(0.005)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    arrived = packs(store)
    assert 10 <= len(arrived) < 30
    assert str(mlflow.get_logged_model(model.model_id).status) == "PENDING"

    second = log(tracking_uri, model.model_id)
    _, complaints = second.communicate(timeout=120)
    assert second.returncode == 0, complaints.decode()

    finished = mlflow.get_logged_model(model.model_id)
    everything = packs(store)
    assert str(finished.status) == "READY"
    assert {key: everything[key] for key in arrived} == arrived
    size = sum(tensor.nbytes for tensor in weights().values())
    assert sum(info.size for info in store.transport.list("packs/")) <= size + IN_HAND * PACK
    assert int(finished.tags["shardflow.bytes_reused"]) >= (len(arrived) - IN_HAND) * PACK
    assert int(finished.tags["shardflow.bytes_sent"]) <= size - (len(arrived) - 2) * PACK
    back = flavor.load_state_dict(f"models:/{model.model_id}")
    assert all(torch.equal(back[name], tensor) for name, tensor in weights().items())
