"""A place for compiled loops that each test has for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from loops.pieces import Compilations


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the code is kept; modules may be written beside it."""
    monkeypatch.setenv("SHARDFLOW_LOOPS", str(tmp_path / "loops"))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path / "loops"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Compilations:
    return Compilations(monkeypatch)
