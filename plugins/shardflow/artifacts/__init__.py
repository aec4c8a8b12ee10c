"""The artifact repository that MLflow finds for `shardflow://`: this much is imported while `import mlflow` runs.

MLflow drops a plugin without a word if it cannot be imported then, so nothing here needs MLflow before it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardflow.artifacts.repository import ShardflowArtifactRepository


def repository_for(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ShardflowArtifactRepository:
    """The repository rooted at an artifact URI (entry point `mlflow.artifact_repository`)."""
    from shardflow.artifacts.repository import ShardflowArtifactRepository  # noqa: PLC0415  # it imports MLflow

    return ShardflowArtifactRepository(artifact_uri, tracking_uri, registry_uri)
