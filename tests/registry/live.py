"""A live `mlflow server` whose registry is this package's, as clients, REST and pages meet it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from services.mlflow_server import MlflowServer
from shardflow.registry.asking import deployments_of, head_told, trail_of
from shardflow.registry.audit import Entry
from shardflow.registry.deployments import Deployment
from shardflow.registry.trail import Verified, verified

OPEN_POLICY = "rules: []\n"


@dataclass(frozen=True)
class Live:
    """A server, and a client of it."""

    server: MlflowServer
    client: MlflowClient

    @property
    def uri(self) -> str:
        return self.server.uri

    def trail(self) -> list[Entry]:
        return list(trail_of(self.client))

    def verified(self) -> Verified:
        return verified(trail_of(self.client), head_told(self.client))

    def deployments(self) -> list[Deployment]:
        return deployments_of(self.client)

    def stages(self, model: str) -> dict[int, str]:
        found = self.client.search_model_versions(f"name = '{model}'")
        return {int(one.version): one.current_stage for one in found}


@contextmanager
def running(
    home: Path,
    database: str,
    *arguments: str,
    policy: str = OPEN_POLICY,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Live]:
    """A server on a database that has MLflow's tables."""
    file = home / "policy.yaml"
    file.write_text(policy)
    settings = {"SHARDFLOW_POLICY": str(file), "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", **(environment or {})}
    registry = ("--registry-store-uri", f"shardflow-{database}")
    with MlflowServer(home, *registry, *arguments, backend_store=database, environment=settings) as server:
        yield Live(server, MlflowClient(server.uri, server.uri))
