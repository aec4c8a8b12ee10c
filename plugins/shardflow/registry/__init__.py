"""MLflow's model registry with a lifecycle that is enforced, evidence that can be trusted, and a history.

import shardflow.registry
shardflow.registry.publish("out/checkpoint-500", name="llama", version="1.4.0", base="llama@1.3.2")
shardflow.registry.record_verdict("llama@1.4.0", thresholds=..., data=..., targets="label", model_type="classifier")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shardflow.registry.evidence_recording import approve, record_verdict
    from shardflow.registry.publishing import publish

_HOMES = {"approve": "evidence_recording", "publish": "publishing", "record_verdict": "evidence_recording"}

__all__ = ["approve", "publish", "record_verdict"]


def __getattr__(name: str) -> Any:
    # Parts of this package are imported while `import mlflow` runs: the rest waits until something is used.
    if name not in _HOMES:
        raise AttributeError(f"module 'shardflow.registry' has no attribute {name!r}")
    return getattr(import_module(f"shardflow.registry.{_HOMES[name]}"), name)
