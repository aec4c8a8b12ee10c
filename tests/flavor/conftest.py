"""A tracking database for all tests, and for each an experiment whose artifacts go to a store of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from flavor.models import NET, Net, net
from shardflow import flavor
from shardflow.store.config import Cutting, Settings
from shardflow.store.store import Store

SMALL = Settings(
    pack_bytes=256 << 10,
    chunk_bytes=64 << 10,
    inline_bytes=1 << 10,
    cutting=Cutting(minimum=512, mean=2048, maximum=8192),
)

_numbers = itertools.count()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking database; its tables take seconds to make, so all tests have the same."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"
    mlflow.MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def tracking_uri(database: str) -> Iterator[str]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(database)
    yield database
    mlflow.set_tracking_uri(before)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.init(str(tmp_path.resolve() / "store"), SMALL)


@pytest.fixture
def large(tmp_path: Path) -> Store:
    """A store whose chunks are so large that a small change is coded as a difference."""
    return Store.init(str(tmp_path.resolve() / "large"), Settings(pack_bytes=1 << 20, chunk_bytes=64 << 10))


@pytest.fixture
def experiment(store: Store, tracking_uri: str) -> str:
    """The name of an experiment that logs to the store."""
    return _experiment(f"{store.url}/artifacts")


@pytest.fixture
def module() -> Net:
    return net()


@pytest.fixture
def uri(module: Net, experiment: str) -> str:
    """The net, logged in several files."""
    return str(flavor.log_model(module, name="net", factory=NET, max_shard_bytes=100_000).model_uri)


@pytest.fixture
def elsewhere(tmp_path: Path, tracking_uri: str) -> str:
    """The name of an experiment that logs to an ordinary directory."""
    return _experiment((tmp_path / "artifacts").as_uri())


def _experiment(location: str) -> str:
    name = f"test-{next(_numbers)}"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(name, artifact_location=location))
    return name
