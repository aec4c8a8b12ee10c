"""A live `mlflow server`: tracking, registry, artifacts and pages, on a database of its own unless told otherwise.

    with MlflowServer(home, "--default-artifact-root", "shardflow://file/data/store") as server:
        mlflow.set_tracking_uri(server.uri)

It takes some seconds to start, so let a module share one. Two start together if both are made before the first is
entered.
"""

from __future__ import annotations

import os
import urllib.parse
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import pytest

from services.mlflow_commands import MlflowCommand
from services.process import Running, answers, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

QUIET = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
PATIENCE = 180.0


class MlflowServer:
    """One server; `arguments` are those of `mlflow server`, and `environment` adds to the one of the tests."""

    def __init__(
        self,
        home: Path,
        *arguments: str,
        backend_store: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        port = free_port()
        self.uri = f"http://127.0.0.1:{port}"
        self.database = backend_store or f"sqlite:///{home}/mlflow.db"
        self.log = home / "mlflow-server.log"
        command = ["server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", self.database, *arguments]
        settings = {**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **(environment or {})}
        self._process = Running(MlflowCommand(command, self.log, settings), "mlflow server", self.log)

    def get(self, path: str, /, **query: str) -> bytes:
        """What the server answers to a GET."""
        with urllib.request.urlopen(f"{self.uri}/{path}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
            return bytes(answer.read())

    def __enter__(self) -> Self:
        try:
            self._process.wait_until(lambda: answers(f"{self.uri}/health"), PATIENCE)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        self._process.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()


@contextmanager
def used(server: MlflowServer) -> Iterator[MlflowServer]:
    """Makes it the server that MLflow's functions talk to, in this process and in those it starts."""
    import mlflow

    with pytest.MonkeyPatch.context() as environment:
        where = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_REGISTRY_URI": server.uri, "MLFLOW_EXPERIMENT_ID": "0"}
        for name, value in {**QUIET, **where}.items():
            environment.setenv(name, value)
        mlflow.set_tracking_uri(server.uri)
        mlflow.set_registry_uri(server.uri)
        mlflow.set_experiment(experiment_id="0")  # one that an earlier test chose is not on this server
        try:
            yield server
        finally:
            mlflow.set_tracking_uri(None)
            mlflow.set_registry_uri(None)
