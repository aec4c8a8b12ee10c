"""Tags every MLflow run inside a DVC stage or experiment with what DVC knows: stage, experiment, commit, hashes.

Whatever goes wrong, the run starts: tags that cannot be found out are left out, and a warning says why.

MLflow imports this module while it is imported itself: nothing heavy may be imported here at the top. Nor MLflow, which
would then find this module half made; what it asks for is in `run_context`, and the way there is here.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shardflow.dvc.projects import Project, Stage, project_around

if TYPE_CHECKING:
    from shardflow.dvc.run_context import DvcRunContext

__all__ = ["LONGEST", "TAGS", "DvcRunContext", "fitting", "tags_of"]

TAGS = {
    "root": "dvc.root",
    "stage": "dvc.stage",
    "experiment": "dvc.experiment",
    "baseline": "dvc.baseline",
    "repo": "dvc.repo",
    "rev": "dvc.rev",
    "hashes": "dvc.hashes",
    "left_out": "dvc.hashes.left_out",
}
LONGEST = 5000
"""Characters in a tag that every tracking store takes."""

_logger = logging.getLogger(__name__)


def __getattr__(name: str) -> Any:
    if name != "DvcRunContext":
        raise AttributeError(f"module 'shardflow.dvc.tags' has no attribute {name!r}")
    import mlflow  # noqa: F401, PLC0415  # comes back here, and finds this module whole

    from shardflow.dvc.run_context import DvcRunContext  # noqa: PLC0415

    return DvcRunContext


def tags_of(stage: Stage) -> dict[str, str]:
    """What a run is tagged with that starts in this stage."""
    return {**_named(stage), **_hash_tags(stage)}


def _named(stage: Stage) -> dict[str, str]:
    # An experiment may run in a copy of the project: the commit is that of the copy, the root that of the original.
    project = project_around() or Project(stage.root)
    found = {
        "root": str(stage.root),
        "stage": stage.name,
        "experiment": stage.experiment,
        "baseline": stage.baseline,
        "repo": project.address(),
        "rev": project.commit(),
    }
    return {TAGS[name]: value for name, value in found.items() if value}


def _hash_tags(stage: Stage) -> dict[str, str]:
    from shardflow.dvc.stages import hashes_of  # noqa: PLC0415  # it needs DVC, which is heavy

    if stage.name is None:
        return {}
    try:
        return fitting(hashes_of(stage).deps)
    except Exception as error:  # noqa: BLE001  # no reason is good enough to keep a training from starting
        _logger.warning("The MLflow run does not name the data of stage %s: %s", stage.name, error)
        return {}


def fitting(hashes: Mapping[str, str]) -> dict[str, str]:
    """Hashes by path as one tag of JSON; those that do not fit in are counted."""
    kept: dict[str, str] = {}
    length = 2
    for path in sorted(hashes):
        length += len(json.dumps({path: hashes[path]}))
        if length > LONGEST:
            break
        kept[path] = hashes[path]
    tags = {TAGS["hashes"]: json.dumps(kept, sort_keys=True)}
    if len(kept) < len(hashes):
        tags[TAGS["left_out"]] = str(len(hashes) - len(kept))
    return tags
