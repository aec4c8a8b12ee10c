"""The MLflow flavor: models of any size logged to a store and loaded from it, without a second copy of their weights.

import shardflow.flavor
info = shardflow.flavor.log_model(model, name="llama", factory="my_models:Llama")
model = shardflow.flavor.load_model(info.model_uri)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardflow.flavor.environment import get_default_conda_env, get_default_pip_requirements
    from shardflow.flavor.loading import _load_pyfunc as _load_pyfunc
    from shardflow.flavor.loading import iter_tensors, load_model, load_state_dict
    from shardflow.flavor.migrating import migrate
    from shardflow.flavor.resharding import reshard
    from shardflow.flavor.saving import log_model, save_model
    from shardflow.flavor.slicing import Rank

FLAVOR_NAME = "shardflow"

_HOMES = {
    **dict.fromkeys(("get_default_conda_env", "get_default_pip_requirements"), "environment"),
    **dict.fromkeys(("_load_pyfunc", "iter_tensors", "load_model", "load_state_dict"), "loading"),
    **dict.fromkeys(("log_model", "save_model"), "saving"),
    "Rank": "slicing",
    "migrate": "migrating",
    "reshard": "resharding",
}

__all__ = [
    "FLAVOR_NAME",
    "Rank",
    "get_default_conda_env",
    "get_default_pip_requirements",
    "iter_tensors",
    "load_model",
    "load_state_dict",
    "log_model",
    "migrate",
    "reshard",
    "save_model",
]


def __getattr__(name: str) -> Any:
    # torch and mlflow take seconds to import: that waits until something is used.
    if name not in _HOMES:
        raise AttributeError(f"module 'shardflow.flavor' has no attribute {name!r}")
    return getattr(import_module(f"shardflow.flavor.{_HOMES[name]}"), name)
