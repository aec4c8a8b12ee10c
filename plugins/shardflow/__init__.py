"""Shardflow: large models in MLflow and DVC, stored once, sent once, verified always.

shardflow.init("shardflow://s3/bucket/models")
shardflow.put("checkpoints/step-1000", "shardflow://s3/bucket/models/llama/v1")
shardflow.get("shardflow://s3/bucket/models/llama/v1", "restored")
with shardflow.open("shardflow://s3/bucket/models/llama/v1/model.safetensors") as file: ...
"""

from importlib import import_module
from pkgutil import extend_path
from typing import TYPE_CHECKING, Any

__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from shardflow.api import get, init, ls, open, put, rm, stat  # noqa: A004
    from shardflow.errors import ShardflowError
    from shardflow.store.store import Store

_HOMES = {
    **dict.fromkeys(("get", "init", "ls", "open", "put", "rm", "stat"), "shardflow.api"),
    "ShardflowError": "shardflow.errors",
    "Store": "shardflow.store.store",
}

__all__ = ["ShardflowError", "Store", "get", "init", "ls", "open", "put", "rm", "stat"]


def __getattr__(name: str) -> Any:
    # MLflow imports its plugins while it is imported itself: nothing heavy may load before it is used.
    if name not in _HOMES:
        raise AttributeError(f"module 'shardflow' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
