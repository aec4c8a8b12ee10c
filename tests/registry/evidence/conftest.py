"""A version of a registered model, whose files are in a store."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from registry.evidence.samples import FILES
from registry.logged import Place, place
from shardflow.registry.keys import make_key
from shardflow.registry.references import Registered, find

_numbers = itertools.count()


@pytest.fixture(scope="module")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tracking database; its tables take seconds to make, so all tests have the same."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('tracking')}/mlflow.db"
    mlflow.MlflowClient(uri).search_experiments()
    return uri


@pytest.fixture
def here(tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("SHARDFLOW_KEY", str(make_key(tmp_path / "ada.pem")))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    before = mlflow.get_tracking_uri()
    yield place(tmp_path, tracking)
    mlflow.set_tracking_uri(before)
    mlflow.set_registry_uri("")


@pytest.fixture
def version(here: Place) -> Registered:
    """A version of a model of this test's own."""
    name = f"llama-{next(_numbers)}"
    here.register(name, here.log(FILES))
    return find(f"{name}/1")
