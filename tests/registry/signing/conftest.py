"""A model in a store, and a key to sign it with."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from registry.logged import SMALL
from shardflow.registry.keys import make_key, public_pem
from shardflow.store.noted import noting_sha256
from shardflow.store.store import Store

if TYPE_CHECKING:
    pass


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    (directory / "weights").mkdir(parents=True)
    (directory / "MLmodel").write_text("flavors: {}")
    (directory / "weights" / "a.safetensors").write_bytes(random.Random(1).randbytes(500_000))
    (directory / "ünïcode name.txt").write_text("hello")
    return directory


@pytest.fixture
def location(tmp_path: Path, model: Path) -> str:
    """The model in a store, its SHA-256 noted as it was put."""
    store = Store.init(str(tmp_path / "store"), SMALL)
    with noting_sha256():
        store.put(model, "m")
    return f"{store.url}/m"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "key.pem")


@pytest.fixture
def public(key: Path, tmp_path: Path) -> Path:
    path = tmp_path / "key.pub"
    path.write_text(public_pem(key))
    return path
