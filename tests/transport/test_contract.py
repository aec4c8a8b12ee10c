"""The transport's own conformance suite on the backends that need no server."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from shardflow.testing.transport import TransportContract
from shardflow.transport import StoreURL, Transport, connect

if TYPE_CHECKING:
    from pathlib import Path


class TestFile(TransportContract):
    @pytest.fixture
    def transport(self, tmp_path: Path) -> Transport:
        return connect(StoreURL.parse(str(tmp_path / "store")))


class TestFileWithoutSync(TransportContract):
    @pytest.fixture
    def transport(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Transport:
        monkeypatch.setenv("SHARDFLOW_FSYNC", "0")
        return connect(StoreURL.parse(str(tmp_path / "store")))


class TestMemory(TransportContract):
    @pytest.fixture
    def transport(self) -> Transport:
        return connect(StoreURL.parse(f"shardflow://memory/contract-{secrets.token_hex(8)}/store"))
