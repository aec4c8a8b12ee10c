"""What MLflow asks when a run starts; it gets here by `tags`, while it is imported itself."""

from __future__ import annotations

from mlflow.tracking.context.abstract_context import RunContextProvider

from shardflow.dvc.projects import current_stage
from shardflow.dvc.tags import tags_of


class DvcRunContext(RunContextProvider):  # type: ignore[misc]  # mlflow is not typed
    """The tags of the stage or experiment that this process runs in."""

    def in_context(self) -> bool:
        return current_stage() is not None

    def tags(self) -> dict[str, str]:
        stage = current_stage()
        return {} if stage is None else tags_of(stage)
