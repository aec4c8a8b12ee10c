"""The database behind a registry's URI: how the URI is written, and that the registry's tables are in it."""

from __future__ import annotations

from sqlalchemy import Engine

from shardflow.errors import ShardflowError
from shardflow.registry.refusals import setup_failed
from shardflow.registry.tables import prepare

PREFIX = "shardflow-"
DATABASES = ("sqlite", "postgresql", "mysql")


def plain_uri(uri: str) -> str:
    """A registry's URI as SQLAlchemy takes it: without the prefix that makes MLflow find this package."""
    return uri.removeprefix(PREFIX)


def is_database(uri: str) -> bool:
    """Whether a registry's URI names a database, and not a server."""
    return plain_uri(uri).partition(":")[0].partition("+")[0] in DATABASES


def prepared(engine: Engine) -> None:
    """Make the tables, or tell MLflow why they cannot be used."""
    try:
        prepare(engine)
    except ShardflowError as error:
        raise setup_failed(error) from error
