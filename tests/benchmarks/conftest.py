"""The benchmarks are programs, no package: their harness is found on the path while a test runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def harness_on_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    loaded = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - loaded:
        if name.partition(".")[0] == "harness":
            del sys.modules[name]
