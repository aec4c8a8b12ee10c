"""Logged and registered models for tests: real ones of MLflow, their files in a store, made without any framework."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow import MlflowClient

from shardflow.store.config import Cutting, Settings
from shardflow.store.store import Store

SMALL = Settings(
    pack_bytes=256 << 10,
    chunk_bytes=64 << 10,
    inline_bytes=1 << 10,
    cutting=Cutting(minimum=512, mean=2048, maximum=8192),
)


@dataclass(frozen=True)
class Place:
    """A tracking server's database with a registry in it, and a store for artifacts."""

    client: MlflowClient
    store: Store
    experiment: str

    def log(
        self,
        files: Mapping[str, bytes],
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        run_id: str | None = None,
    ) -> Any:
        """A logged model of these files."""
        made = self.client.create_logged_model(
            self.experiment, name="model", source_run_id=run_id, tags=dict(tags or {}), params=dict(params or {})
        )
        for name, content in files.items():
            write(made.artifact_location, name, content)
        for name, value in (metrics or {}).items():
            run = run_id or self.run()
            self.client.log_metric(run, name, value, model_id=made.model_id)
        self.client.finalize_logged_model(made.model_id, "READY")
        return self.client.get_logged_model(made.model_id)

    def run(self, tags: Mapping[str, str] | None = None) -> str:
        run = self.client.create_run(self.experiment, tags=dict(tags or {}))
        self.client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def register(self, name: str, model: Any, tags: Mapping[str, str] | None = None) -> Any:
        """The next version of a registered model, which begins with its first."""
        if not self.client.search_registered_models(f"name='{name}'"):
            self.client.create_registered_model(name)
        return self.client.create_model_version(
            name,
            f"models:/{model.model_id}",
            run_id=model.source_run_id,
            tags=dict(tags or {}),
            model_id=model.model_id,
        )


def write(location: str, name: str, content: bytes) -> None:
    """Put a file beside others of a model, wherever they are."""
    import io

    store, path = Store.find(location)
    store.put(io.BytesIO(content), f"{path}/{name}", deltas=False)


@cache
def _template() -> Path:
    """A database with MLflow's tables, which take seconds to make; a copy takes none."""
    directory = Path(tempfile.mkdtemp(prefix="shardflow-tests-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    MlflowClient(f"sqlite:///{directory}/mlflow.db").search_registered_models()
    MlflowClient(f"sqlite:///{directory}/mlflow.db").search_experiments()
    return directory / "mlflow.db"


@contextmanager
def own_place(directory: Path, *, gated: bool = True) -> Iterator[Place]:
    """A place with a database of its own, used by everything in the block; `gated` is with this package's registry."""
    database = directory / "mlflow.db"
    shutil.copy(_template(), database)
    before = mlflow.get_tracking_uri()
    os.environ.update(_QUIET)
    try:
        yield place(directory, f"sqlite:///{database}", f"{'shardflow-' * gated}sqlite:///{database}")
    finally:
        mlflow.set_tracking_uri(before)
        mlflow.set_registry_uri("")


_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}


def place(directory: Path, tracking: str, registry: str | None = None) -> Place:
    store = Store.init(str(directory.resolve() / "store"), SMALL)
    client = MlflowClient(tracking, registry or tracking)
    experiment = client.create_experiment(f"in {directory}", artifact_location=f"{store.url}/artifacts")
    mlflow.set_tracking_uri(tracking)
    mlflow.set_registry_uri(registry or tracking)
    return Place(client, store, experiment)


def safetensors(tensors: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """A file of tensors of float32 or int8."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        raw = tensor.tobytes()
        kind = {"float32": "F32", "float16": "F16", "int8": "I8"}[str(tensor.dtype)]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data
