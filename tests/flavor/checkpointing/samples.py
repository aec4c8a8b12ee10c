"""States of a training, and a gate that the thread that stores them waits at."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch

from shardflow.flavor.checkpointing.steps import Steps


def state(seed: int, rows: int = 256) -> dict[str, Any]:
    made = torch.Generator().manual_seed(seed)
    return {"weights": torch.randn(rows, 256, generator=made).bfloat16(), "step": seed}


def near(other: dict[str, Any], step: int) -> dict[str, Any]:
    """The state a little later."""
    made = torch.Generator().manual_seed(step)
    moved = torch.rand(other["weights"].shape, generator=made) < 0.05
    return {"weights": torch.where(moved, other["weights"] * 1.01, other["weights"]), "step": step}


def same(left: dict[str, Any], right: dict[str, Any]) -> bool:
    return left["step"] == right["step"] and torch.equal(left["weights"], right["weights"])


class Gate:
    """Holds up what the background thread writes, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        write = Steps.write

        def held(*arguments: Any) -> Any:
            self.reached.set()
            assert self.opened.wait(60)
            return write(*arguments)

        monkeypatch.setattr(Steps, "write", held)
