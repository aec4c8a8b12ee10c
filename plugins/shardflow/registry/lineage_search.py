"""Which versions are related to one: every ancestor and every descendant, each with its parents in its tags.

Three queries, however long the line is: for the edges up and down, and for the versions on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import and_, select, union

from shardflow.registry.claims import PARENTS_TAG, edges_text
from shardflow.registry.parents import Edge, ancestors, descendants, edges_down, edges_up
from shardflow.registry.references import STATUS_TAG
from shardflow.registry.tables import VERSIONS, Database
from shardflow.registry.versions import VERSION_TAG

_VERSION = SqlModelVersion.__table__

# In the order in which MLflow's entity takes them.
_TOLD = ("creation_time", "last_updated_time", "description", "user_id", "current_stage", "source", "run_id", "status")
_SHOWN = [*(_VERSION.c[name] for name in ("name", "version", *_TOLD)), VERSIONS.c.status, VERSIONS.c.semantic]
_OURS = (_VERSION.c.workspace == DEFAULT_WORKSPACE_NAME, _VERSION.c.current_stage != STAGE_DELETED_INTERNAL)

Name = tuple[str, int]


def relatives(db: Database, model: str, version: int) -> list[ModelVersion]:
    """A version with all that it descends from and all that descends from it."""
    edges = {*edges_up(db, model, version), *edges_down(db, model, version)}
    parents: dict[Name, list[Edge]] = {}
    for edge in edges:
        parents.setdefault((edge.child_model, edge.child_version), []).append(edge)
    line = union(select(ancestors(db, model, version)), select(descendants(db, model, version))).subquery("line")
    joined = line.join(_VERSION, and_(*_OURS, _VERSION.c.name == line.c.model, _VERSION.c.version == line.c.version))
    kept = and_(VERSIONS.c.model == _VERSION.c.name, VERSIONS.c.version == _VERSION.c.version)
    # Taken as tuples: rows are slow to be asked by name, and there can be thousands.
    rows = db.execute(select(*_SHOWN).select_from(joined.outerjoin(VERSIONS, kept)))
    return [_described(row, parents) for row in sorted(rows, key=_name)]


def _name(row: Sequence[Any]) -> Name:
    return row[0], row[1]


def _described(row: Sequence[Any], parents: dict[Name, list[Edge]]) -> ModelVersion:
    name, version, *told, standing, semantic = row
    of = parents.get((name, version))
    tags = {STATUS_TAG: standing, VERSION_TAG: semantic, PARENTS_TAG: edges_text(of) if of else None}
    shown = [ModelVersionTag(key, value) for key, value in tags.items() if value]
    return ModelVersion(name, str(version), *told, tags=shown)
