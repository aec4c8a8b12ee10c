"""What MLflow loads while it is imported: little, and found for every way to write a registry's URI."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from mlflow.tracking._model_registry.utils import _get_store
from mlflow.tracking.request_header.registry import resolve_request_headers

from registry.conftest import forget_engine
from shardflow.registry.actors import HEADER, local_user
from shardflow.registry.database import is_database, plain_uri
from shardflow.registry.store import ShardflowRegistryStore

LIGHT = """
import sys
import shardflow.registry.plugin, shardflow.registry.actors
heavy = {"mlflow", "sqlalchemy", "flask", "numpy", "obstore", "cryptography"} & set(sys.modules)
assert not heavy, heavy
"""


def test_what_mlflow_loads_at_its_own_import_brings_nothing_with_it() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], check=True)


def test_every_entry_point_can_be_loaded() -> None:
    found = entry_points(group="mlflow.model_registry_store")
    ours = {point.name for point in found if point.value.startswith("shardflow.")}
    assert {"shardflow-sqlite", "shardflow-postgresql", "shardflow-mysql"} <= ours
    assert all(callable(point.load()) for point in found if point.name in ours)


def test_mlflow_finds_the_store_by_its_uri(sqlite_uri: str) -> None:
    store = _get_store(f"shardflow-{sqlite_uri}")
    assert isinstance(store, ShardflowRegistryStore)
    assert store.db_uri == sqlite_uri
    forget_engine(store)


def test_mlflows_clients_say_who_uses_them() -> None:
    assert resolve_request_headers()[HEADER] == local_user()


@pytest.mark.parametrize(
    ("uri", "plain"),
    [
        ("shardflow-sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("shardflow-postgresql+psycopg://u:p@h/db", "postgresql+psycopg://u:p@h/db"),
        ("shardflow-mysql+pymysql://u:p@h/db", "mysql+pymysql://u:p@h/db"),
    ],
)
def test_a_uri_is_that_of_the_database_with_a_prefix(uri: str, plain: str) -> None:
    assert plain_uri(uri) == plain
    assert is_database(uri)
    assert not is_database("http://127.0.0.1:5000")


def test_a_registry_keeps_working_without_the_package(sqlite_uri: str, tmp_path: Path) -> None:
    """MLflow's own store reads and writes the database as before; the history shows where it went around."""
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    from registry.opened import opened
    from shardflow.registry.trail import astray, stages_told

    with opened(sqlite_uri) as registry:
        registry.register(versions=2)
        registry.promote("llama", 1, "staging")
    stock = SqlAlchemyStore(sqlite_uri)
    stock.transition_model_version_stage("llama", 2, "Production", False)
    stock.create_model_version("llama", "file:///model")
    forget_engine(stock)
    with opened(sqlite_uri) as registry:
        assert registry.statuses() == {1: "staging", 2: "draft", 3: "draft"}
        stages = {("llama", one): registry.version("llama", one).current_stage for one in (1, 2, 3)}
        (found,) = astray(stages_told(registry.trail()), stages)
        assert found == "llama/2 is in Production, and the trail says draft: it was moved around the registry"
        registry.promote("llama", 1, "production")
        assert registry.version("llama", 2).current_stage == "Archived"
