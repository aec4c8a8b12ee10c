"""A registry for each test, in a database of its own: copied from one that MLflow made once, which takes seconds."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from registry.opened import Registry, opened

if TYPE_CHECKING:
    from services.postgres import Postgres

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.service("postgres"))]


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's tables, with nothing in them."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    with opened_stock(f"sqlite:///{path}"):
        pass
    return path


@pytest.fixture
def sqlite_uri(empty_database: Path, tmp_path: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_database, tmp_path / 'mlflow.db')}"


@pytest.fixture(params=DATABASES)
def database_uri(request: pytest.FixtureRequest) -> str:
    """An empty database of each kind in turn."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_uri"))
    return str(request.getfixturevalue("postgres_uri"))


@pytest.fixture(scope="session")
def empty_postgres(postgres: Postgres) -> str:
    """MLflow's tables in PostgreSQL, with nothing in them."""
    uri = postgres.new_database()
    with opened_stock(uri):
        pass
    return uri


@pytest.fixture
def postgres_uri(postgres: Postgres, empty_postgres: str) -> str:
    """A copy of the empty database."""
    import psycopg
    from psycopg import sql

    base, _, template = empty_postgres.rpartition("/")
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as connection:
        copy = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
        connection.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
    return f"{base}/{name}"


@pytest.fixture
def registry(sqlite_uri: str) -> Iterator[Registry]:
    """A registry in SQLite, whose policy asks for nothing."""
    with opened(sqlite_uri) as registry:
        yield registry


@pytest.fixture
def any_registry(database_uri: str) -> Iterator[Registry]:
    """A registry in each kind of database in turn."""
    with opened(database_uri) as registry:
        yield registry


@pytest.fixture
def stock_store(tmp_path: Path, empty_database: Path) -> Iterator[SqlAlchemyStore]:
    """MLflow's own store, in another database."""
    path = shutil.copy(empty_database, tmp_path / "stock.db")
    with opened_stock(f"sqlite:///{path}") as store:
        yield store


class opened_stock:  # noqa: N801  # used as a function
    """MLflow's store for a while; engines are kept for the life of the process otherwise."""

    def __init__(self, uri: str) -> None:
        self._store = SqlAlchemyStore(uri)

    def __enter__(self) -> SqlAlchemyStore:
        return self._store

    def __exit__(self, *_: object) -> None:
        forget_engine(self._store)


def forget_engine(store: SqlAlchemyStore) -> None:
    store.engine.dispose()
    SqlAlchemyStore._engine_map.pop(store.db_uri, None)
