"""`migrate` tells what it moves, what that saved, and what it could not move."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import save_file

from cli.conftest import COMMAND, Outcome, files_of, the_line
from flavor.models import NET, net, same
from services.mlflow_server import MlflowServer, used
from shardflow import flavor
from shardflow.store.config import Settings
from shardflow.store.store import Store

Command = Callable[..., Outcome]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    """Three states of a model of a megabyte, a little training apart, in a directory that is no store."""
    torch.manual_seed(0)
    tensors = {f"layers.{n}.weight": torch.randn(256, 256) for n in range(5)}
    for step in (5, 50, 500):
        (tmp_path / "run" / f"step-{step}").mkdir(parents=True)
        save_file(tensors, tmp_path / "run" / f"step-{step}" / "model.safetensors")
        tensors = {name: tensor + 1e-5 * torch.randn_like(tensor) for name, tensor in tensors.items()}
    return tmp_path / "run"


def test_migrate_moves_checkpoints_and_reports_what_that_saved(
    checkpoints: Path, store: Path, shardflow: Command, tmp_path: Path
) -> None:
    done = shardflow("migrate", store / "run", "--from", checkpoints)
    assert done.code == 0, done.err
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["version", "files", "size", "stored", "saved", "time"]
    assert [line[:4] for line in lines[1:4]] == [[f"step-{step}", "moved", "1", "1.3"] for step in (5, 50, 500)]
    assert done.out.splitlines()[4].startswith(f"3 versions moved to shardflow://file{store}/run; 3.8 MiB in all, ")
    assert shardflow("get", store / "run", tmp_path / "back").code == 0
    assert files_of(tmp_path / "back") == files_of(checkpoints)
    again = shardflow("migrate", store / "run", "--from", checkpoints)
    assert [line.split()[1:3] for line in again.out.splitlines()[1:4]] == [["was", "there"]] * 3
    assert again.out.splitlines()[4].startswith("0 versions moved")


def test_the_report_comes_as_json(checkpoints: Path, store: Path, shardflow: Command) -> None:
    found = shardflow("migrate", store / "run", "--from", checkpoints, "--json").document
    assert [version["state"] for version in found["versions"]] == ["moved"] * 3
    assert [version["source"] for version in found["versions"]] == [
        str(checkpoints / f"step-{n}") for n in (5, 50, 500)
    ]
    assert found["bytes"] == sum(len(data) for data in files_of(checkpoints).values())
    assert found["stored"] < 0.9 * found["bytes"]
    assert found["failed"] == 0


def test_a_dry_run_moves_nothing(checkpoints: Path, store: Path, shardflow: Command) -> None:
    done = shardflow("migrate", store / "run", "--from", checkpoints, "--dry-run")
    assert done.out.splitlines()[-1] == f"3 versions would be moved to shardflow://file{store}/run, 3.8 MiB"
    assert shardflow("ls", store).out == ""


def test_a_version_that_cannot_be_moved_is_told_and_makes_the_exit_code_1(
    checkpoints: Path, store: Path, shardflow: Command
) -> None:
    (checkpoints / "step-50" / "gone").symlink_to(checkpoints / "nothing")
    done = shardflow("migrate", store / "run", "--from", checkpoints)
    assert done.code == 1
    assert [line.split()[1] for line in done.out.splitlines()[1:4]] == ["moved", "failed", "moved"]
    assert "gone is a link to nothing" in done.out
    assert done.out.splitlines()[-1] == "1 version could not be moved"


def test_what_is_wrong_is_one_line(store: Path, tmp_path: Path, checkpoints: Path, shardflow: Command) -> None:
    assert "has to be named" in the_line(shardflow("migrate", store))
    assert "does not exist" in the_line(shardflow("migrate", store, "--from", store / "nothing"))
    assert "there is no store" in the_line(shardflow("migrate", tmp_path / "new", "--from", checkpoints))
    assert shardflow("migrate", store, "--from", checkpoints, "--from-option", "x").code == 2
    assert shardflow("migrate", store, "--from", checkpoints, "--order", "size").code == 2


def test_a_killed_migrate_is_finished_by_the_same_command(tmp_path: Path, process: Command) -> None:
    store = Store.init(str(tmp_path.resolve() / "large"), Settings(pack_bytes=1 << 20, chunk_bytes=1 << 20))
    for step in range(3):
        (tmp_path / "in" / f"step-{step}").mkdir(parents=True)
        (tmp_path / "in" / f"step-{step}" / "weights").write_bytes(os.urandom(12 << 20))
    line = [*COMMAND, "migrate", f"{store.url}/run", "--from", str(tmp_path / "in")]
    first = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    while first.poll() is None and len(list(store.transport.list("packs/"))) < 20:
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = {info.key: info.modified for info in store.transport.list("packs/")}
    done = process("migrate", f"{store.url}/run", "--from", tmp_path / "in", "--json")
    assert done.code == 0, done.err
    assert done.document["versions"][0]["state"] == "was there"
    after = {info.key: info.modified for info in store.transport.list("packs/")}
    assert {key: after[key] for key in before} == before
    store.get("run", tmp_path / "back")
    assert files_of(tmp_path / "back") == files_of(tmp_path / "in")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A stock server that keeps artifacts itself and hands them out."""
    home = tmp_path_factory.mktemp("stock")
    with MlflowServer(home, "--artifacts-destination", str(home / "artifacts")) as running, used(running):
        yield running


@pytest.mark.slow
def test_the_versions_on_a_stock_server_move_into_a_store_and_load_from_there(
    server: MlflowServer, store: Path, process: Command
) -> None:
    for seed in range(2):
        info = flavor.log_model(
            net(seed), name="net", factory=NET, registered_model_name="net", sharding="layers", max_shard_bytes=100_000
        )
    assert mlflow.get_logged_model(info.model_id).artifact_location.startswith("mlflow-artifacts:/")
    mlflow.MlflowClient().set_registered_model_alias("net", "best", "2")
    done = process("migrate", store / "registry", "--model", "net", "--register-as", "stored", "--json")
    assert done.code == 0, done.err
    assert [(version["state"], version["registered"]) for version in done.document["versions"]] == [
        ("moved", "1"),
        ("moved", "2"),
    ]
    assert mlflow.MlflowClient().get_model_version("stored", "2").source == f"shardflow://file{store}/registry/net/2"
    assert same(flavor.load_model("models:/stored/1"), net(0))
    assert same(flavor.load_model("models:/stored@best"), net(1))
    assert same(flavor.load_model("models:/net/2"), net(1))
    again = process("migrate", store / "registry", "--model", "net", "--register-as", "stored", "--json")
    assert [(version["state"], version["registered"]) for version in again.document["versions"]] == [
        ("was there", "1"),
        ("was there", "2"),
    ]
