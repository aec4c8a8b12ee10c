"""Every backend keeps both contracts: local disk, memory, S3 (moto and Ceph), Azure (Azurite) and GCS (emulated)."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from services.fixtures import fresh_url
from services.service import Service
from shardflow.store.store import Store
from shardflow.testing.store import SMALL_SETTINGS, StoreContract
from shardflow.testing.transport import TransportContract
from shardflow.transport import StoreURL, Transport, connect

_numbers = itertools.count()


class OnMemory:
    @pytest.fixture
    def place(self) -> tuple[str, dict[str, str]]:
        return f"shardflow://memory/contract-{next(_numbers)}", {}


class OnDisk:
    @pytest.fixture
    def place(self, tmp_path: Path) -> tuple[str, dict[str, str]]:
        return str(tmp_path / "place"), {}


class OnMoto:
    @pytest.fixture
    def place(self, moto: Service) -> tuple[str, dict[str, str]]:
        return fresh_url(moto), dict(moto.options)


class OnCeph:
    @pytest.fixture
    def place(self, ceph: Service) -> tuple[str, dict[str, str]]:
        return fresh_url(ceph), dict(ceph.options)


class OnAzurite:
    @pytest.fixture
    def place(self, azure: Service) -> tuple[str, dict[str, str]]:
        return fresh_url(azure), dict(azure.options)


class OnEmulatedGCS:
    @pytest.fixture
    def place(self, gcs: Service) -> tuple[str, dict[str, str]]:
        return fresh_url(gcs), dict(gcs.options)


class AStore(StoreContract):
    @pytest.fixture
    def store(self, place: tuple[str, dict[str, str]]) -> Store:
        url, options = place
        return Store.init(url, SMALL_SETTINGS, options)


class ATransport(TransportContract):
    @pytest.fixture
    def transport(self, place: tuple[str, dict[str, str]]) -> Transport:
        url, options = place
        return connect(StoreURL.parse(url), options)


class TestStoreOnMemory(OnMemory, AStore): ...


class TestStoreOnDisk(OnDisk, AStore): ...


class TestStoreOnMoto(OnMoto, AStore): ...


class TestStoreOnCeph(OnCeph, AStore): ...


class TestStoreOnAzurite(OnAzurite, AStore): ...


class TestStoreOnEmulatedGCS(OnEmulatedGCS, AStore): ...


class TestTransportOnMemory(OnMemory, ATransport): ...


class TestTransportOnDisk(OnDisk, ATransport): ...


class TestTransportOnMoto(OnMoto, ATransport): ...


class TestTransportOnCeph(OnCeph, ATransport): ...


class TestTransportOnAzurite(OnAzurite, ATransport): ...


class TestTransportOnEmulatedGCS(OnEmulatedGCS, ATransport): ...
