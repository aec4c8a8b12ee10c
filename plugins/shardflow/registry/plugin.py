"""The registry store that MLflow finds for `shardflow-sqlite://` and the like: this much is imported with MLflow.

MLflow drops a plugin without a word if it cannot be imported then, so nothing here needs MLflow before it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardflow.registry.store import ShardflowRegistryStore


def store_for(store_uri: str, tracking_uri: str | None = None) -> ShardflowRegistryStore:
    """The registry in a database (entry point `mlflow.model_registry_store`)."""
    from shardflow.registry.store import ShardflowRegistryStore  # noqa: PLC0415  # it imports MLflow

    return ShardflowRegistryStore(store_uri, tracking_uri)
