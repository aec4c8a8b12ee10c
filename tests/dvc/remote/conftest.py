"""Projects whose remote is a place in a store: on the local disk, or on S3 with credentials in the remote's options."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import Project
from dvc_support.places import Place
from services.fixtures import fresh_url
from services.service import Service


@pytest.fixture
def disk(tmp_path: Path) -> Place:
    """A place on the local disk, with nothing there yet."""
    return Place(f"shardflow://file{tmp_path}/store")


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, disk: Place) -> Place:
    """As `disk`, and then on S3."""
    if request.param == "disk":
        return disk
    moto: Service = request.getfixturevalue("moto")
    return Place(fresh_url(moto, "data/store"), moto.options)


@pytest.fixture
def here(disk: Place, tmp_path: Path) -> Project:
    """A project with its remote on the local disk."""
    return disk.project(tmp_path / "here")


@pytest.fixture
def noise() -> Callable[[int], bytes]:
    """Bytes that are the same every time, and that nothing packs."""
    return random.Random(5).randbytes
