"""The database behind a registry's URI: how the URI is written, and whether the registry can be in it."""

from __future__ import annotations

from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from sqlalchemy import Engine

from shardflow.errors import ShardflowError
from shardflow.registry.refusals import setup_failed
from shardflow.registry.tables import prepare

PREFIX = "shardflow-"
DATABASES = ("sqlite", "postgresql", "mysql")


class WorkspacesAsked(ShardflowError):
    """A server that is to keep the models of several workspaces apart."""


def plain_uri(uri: str) -> str:
    """A registry's URI as SQLAlchemy takes it: without the prefix that makes MLflow find this package."""
    return uri.removeprefix(PREFIX)


def is_database(uri: str) -> bool:
    """Whether a registry's URI names a database, and not a server."""
    return plain_uri(uri).partition(":")[0].partition("+")[0] in DATABASES


def require_one_workspace() -> None:
    """Refuse to serve several workspaces: policy, trail and lineage here know models by their names alone."""
    if MLFLOW_ENABLE_WORKSPACES.get():
        raise setup_failed(
            WorkspacesAsked(
                "a registry with a gate has one workspace",
                remedy="start the server without --enable-workspaces, and one for each workspace",
            )
        )


def prepared(engine: Engine) -> None:
    """Make the tables, or tell MLflow why they cannot be used."""
    try:
        prepare(engine)
    except ShardflowError as error:
        raise setup_failed(error) from error
