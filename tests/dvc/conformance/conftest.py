"""Gives DVC's test classes a store on the local disk, and one on S3, as their remote and their workspace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dvc.testing.fixtures import *  # noqa: F403

from dvc_support.cloud import StoredCloud
from dvc_support.commands import remote_options
from dvc_support.matchers import Matchers
from services.fixtures import fresh_url
from services.service import Service
from shardflow.store.store import Store

PLACES = ["disk", "s3"]


@pytest.fixture
def M() -> type[Matchers]:  # noqa: N802  # DVC's name
    """What the tests of older releases of DVC compare with."""
    return Matchers


@pytest.fixture
def make_disk(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], StoredCloud]:
    """Makes stores on the local disk."""

    def make() -> StoredCloud:
        url = f"shardflow://file{tmp_path_factory.mktemp('stores')}/store"
        Store.init(url)
        return StoredCloud(url)

    return make


@pytest.fixture
def make_s3(moto: Service) -> Callable[[], StoredCloud]:
    """Makes stores on S3, whose credentials only the remote's options have."""

    def make() -> StoredCloud:
        url = fresh_url(moto, "some/store")
        Store.init(url, options=moto.options)
        return StoredCloud(url, remote_options(moto.options))

    return make


@pytest.fixture(params=PLACES)
def cloud(request: pytest.FixtureRequest, make_cloud: Callable[[str], StoredCloud]) -> StoredCloud:
    return make_cloud(request.param)


@pytest.fixture(params=PLACES)
def remote(request: pytest.FixtureRequest, make_remote: Callable[..., StoredCloud]) -> StoredCloud:
    return make_remote("upstream", typ=request.param)


@pytest.fixture(params=PLACES)
def workspace(request: pytest.FixtureRequest, make_workspace: Callable[..., StoredCloud]) -> StoredCloud:
    return make_workspace("workspace", typ=request.param)


@pytest.fixture
def make_workspace(tmp_dir: Any, make_cloud: Callable[[str], StoredCloud]) -> Callable[[str, str], StoredCloud]:
    """DVC's own sets a cache beside the workspace, which it knows for a few kinds of remote, and needs for none."""

    def make(name: str, typ: str) -> StoredCloud:
        cloud = make_cloud(typ)
        tmp_dir.add_remote(name=name, config=cloud.config, default=False)
        return cloud

    return make
