"""The way to `dataset_source`, for MLflow's entry points and everybody else.

MLflow asks for its plugins while it is imported. Whoever is first here has MLflow import them, before anything in them
is half made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardflow.dvc.dataset_source import BadAddress, DvcDatasetSource, from_dvc, parsed

__all__ = ["BadAddress", "DvcDatasetSource", "from_dvc", "parsed"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'shardflow.dvc.datasets' has no attribute {name!r}")
    import mlflow.data  # noqa: F401, PLC0415  # comes back here, and finds what follows whole

    from shardflow.dvc import dataset_source  # noqa: PLC0415

    return getattr(dataset_source, name)
