"""A load writes no file: not to a cache, not to a temporary directory, nowhere. The kernel watches over it."""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import torch

from flavor.models import NET, make_net, net, same
from services.fixtures import fresh_url
from services.service import Service
from services.warmed import start
from shardflow import flavor
from shardflow.store.config import Settings
from shardflow.store.store import Store


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where models are in a store on this machine's disk, and in one on S3."""
    if request.param == "file":
        return str(Store.init(str(tmp_path.resolve() / "store"), Settings(pack_bytes=16 << 20)).url)
    moto: Service = request.getfixturevalue("moto")
    for name, value in moto.env.items():
        monkeypatch.setenv(name, value)
    return fresh_url(moto)


@pytest.fixture
def logged(url: str, tracking_uri: str) -> str:
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(f"at {url}", artifact_location=f"{url}/artifacts"))
    return str(flavor.log_model(net(), name="net", factory=NET, max_shard_bytes=100_000).artifact_path)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, which a process takes for its own and for the one for temporary files and caches."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "TMPDIR", "SHARDFLOW_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(home)
    return home


def exit_code(work: Callable[..., None], *arguments: str) -> int | None:
    """Of a process that does this work and may not write a byte to a file."""
    process = start(_unable_to_write, work, str(Path.cwd()), *arguments)
    process.join(120)
    return process.exitcode


def _unable_to_write(work: Callable[..., None], home: str, *arguments: str) -> None:
    os.chdir(home)
    tempfile.tempdir = home  # Python would write a word to find out whether it may
    sys.dont_write_bytecode = True
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)  # a file, in tests
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python would make an error of it, which might be caught
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    work(*arguments)


def load_in_all_ways(place: str) -> None:
    assert same(flavor.load_model(place), net())
    assert len(flavor.load_state_dict(place, tensors="layers.*", dtype="float16")) == 18
    assert dict(flavor.iter_tensors(place)).keys() == net().state_dict().keys()
    with torch.device("meta"):
        empty = make_net()
    assert same(flavor.load_model(place, into=empty, order=reversed), net())


def load_a_copy(place: str) -> None:
    flavor.load_model(place, dst_path="copy")


def test_loading_writes_no_file(logged: str, home: Path) -> None:
    assert exit_code(load_in_all_ways, logged) == 0
    assert [file for file in home.rglob("*") if file.is_file()] == []  # torch makes directories


def test_a_copy_that_is_asked_for_is_what_the_kernel_would_have_seen(logged: str, home: Path) -> None:
    assert exit_code(load_a_copy, logged) == -signal.SIGXFSZ
    load_a_copy(logged)
    assert (home / "copy" / "MLmodel").is_file()
