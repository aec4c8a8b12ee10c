"""What MLflow keeps for a whole process (addresses, the chosen experiment), put back as it was after a test."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Modules and names in them; a module that was not imported yet has none of it.
KEPT = (
    ("mlflow.tracking._tracking_service.utils", "_tracking_uri"),
    ("mlflow.tracking._model_registry.utils", "_registry_uri"),
    ("mlflow.tracking.fluent", "_active_experiment_id"),
)
VARIABLES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


@contextmanager
def as_it_was() -> Iterator[None]:
    """Whatever is told MLflow in this block, in variables too, is forgotten after it."""
    variables = {name: os.environ.get(name) for name in VARIABLES}
    kept = {place: _read(*place) for place in KEPT}
    try:
        yield
    finally:
        for (module, name), value in kept.items():
            if module in sys.modules:
                setattr(sys.modules[module], name, value)
        for name, text in variables.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


def _read(module: str, name: str) -> object:
    return getattr(sys.modules.get(module), name, None)
