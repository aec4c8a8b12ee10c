"""Which versions are related to one: every ancestor and every descendant, each with its parents in its tags.

Two queries for the edges, however long the line is, and one for each few hundred of the versions on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import and_, select, tuple_

from shardflow.registry.claims import PARENTS_TAG, Parent, parents_text
from shardflow.registry.parents import OUTSIDE, Edge, edges_down, edges_up
from shardflow.registry.references import STATUS_TAG
from shardflow.registry.tables import VERSIONS, Database
from shardflow.registry.versions import VERSION_TAG

MOST_AT_ONCE = 400  # versions in one query: databases count the values that are bound

_VERSION = SqlModelVersion.__table__

# In the order in which MLflow's entity takes them.
_TOLD = ("creation_time", "last_updated_time", "description", "user_id", "current_stage", "source", "run_id", "status")
_SHOWN = ("name", "version", *_TOLD)

Name = tuple[str, int]


def relatives(db: Database, model: str, version: int) -> list[ModelVersion]:
    """A version with all that it descends from and all that descends from it."""
    edges = {*edges_up(db, model, version), *edges_down(db, model, version)}
    names = {(model, version)}
    for edge in edges:
        names |= {(edge.child_model, edge.child_version), (edge.parent_model, edge.parent_version)}
    parents: dict[Name, list[Edge]] = {}
    for edge in sorted(edges, key=lambda edge: (edge.parent_model, edge.parent_version)):
        parents.setdefault((edge.child_model, edge.child_version), []).append(edge)
    inside = sorted(name for name in names if name[1] != OUTSIDE)
    return list(_described(db, inside, parents))


def _described(db: Database, names: Iterable[Name], parents: dict[Name, list[Edge]]) -> Iterator[ModelVersion]:
    waiting = iter(names)
    joined = _VERSION.outerjoin(
        VERSIONS, and_(VERSIONS.c.model == _VERSION.c.name, VERSIONS.c.version == _VERSION.c.version)
    )
    columns = [*(_VERSION.c[name] for name in _SHOWN), VERSIONS.c.status, VERSIONS.c.semantic]
    while some := list(islice(waiting, MOST_AT_ONCE)):
        query = select(*columns).select_from(joined).where(_VERSION.c.workspace == DEFAULT_WORKSPACE_NAME)
        query = query.where(tuple_(_VERSION.c.name, _VERSION.c.version).in_(some))
        # Taken as tuples: rows are slow to be asked by name, and there can be thousands.
        for row in db.execute(query.where(_VERSION.c.current_stage != STAGE_DELETED_INTERNAL)):
            name, version, *told, standing, semantic = row
            tags = {STATUS_TAG: standing, VERSION_TAG: semantic, PARENTS_TAG: _text(parents.get((name, version)))}
            shown = [ModelVersionTag(key, value) for key, value in tags.items() if value]
            yield ModelVersion(name, str(version), *told, tags=shown)


def _text(edges: list[Edge] | None) -> str | None:
    if not edges:
        return None
    return parents_text(Parent(edge.parent_model, edge.parent_version, edge.relation) for edge in edges)  # type: ignore[arg-type]
