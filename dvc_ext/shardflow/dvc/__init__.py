"""The DVC side of Shardflow, a distribution of its own: `dvc` sees a remote only through an installed hook."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from shardflow.dvc.checkpoints import Checkpoints
    from shardflow.dvc.pointers import Pointer, load_checkpoint
    from shardflow.dvc.registration import register

_HOMES = {
    "Checkpoints": "shardflow.dvc.checkpoints",
    "Pointer": "shardflow.dvc.pointers",
    "load_checkpoint": "shardflow.dvc.pointers",
    "register": "shardflow.dvc.registration",
}

__all__ = ["Checkpoints", "Pointer", "load_checkpoint", "register"]


def __getattr__(name: str) -> Any:
    # DVC's hook and MLflow's plugins import this package early: nothing heavy may load before it is used.
    if name not in _HOMES:
        raise AttributeError(f"module 'shardflow.dvc' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
