"""A version as MLflow's API shows it after a move, read with two statements where MLflow's own objects take four."""

from __future__ import annotations

from typing import Any

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlModelVersionTag, SqlRegisteredModelAlias
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import FromClause, bindparam, literal, null, select, union_all

from shardflow.registry.tables import Database

_VERSION = SqlModelVersion.__table__
_TAG = SqlModelVersionTag.__table__
_ALIAS = SqlRegisteredModelAlias.__table__


def _of_the_version(table: FromClause) -> list[Any]:
    columns = table.c
    ours = columns.workspace == DEFAULT_WORKSPACE_NAME
    return [ours, columns.name == bindparam("b_name"), columns.version == bindparam("b_version")]


_ROW = select(_VERSION).where(*_of_the_version(_VERSION))
_BESIDE = union_all(
    select(literal("tag").label("kind"), _TAG.c.key.label("word"), _TAG.c.value).where(*_of_the_version(_TAG)),
    select(literal("alias"), _ALIAS.c.alias, null()).where(*_of_the_version(_ALIAS)),
)


def shown(db: Database, model: str, version: int) -> ModelVersion:
    """A version that is there, with its tags and aliases."""
    which = {"b_name": model, "b_version": version}
    row = db.execute(_ROW, which).one()
    beside = db.execute(_BESIDE, which).all()
    return ModelVersion(
        row.name,
        row.version,
        row.creation_time,
        row.last_updated_time,
        row.description,
        row.user_id,
        row.current_stage,
        row.source,
        row.run_id,
        row.status,
        row.status_message,
        [ModelVersionTag(one.word, one.value) for one in beside if one.kind == "tag"],
        row.run_link,
        sorted(one.word for one in beside if one.kind == "alias"),
        workspace=row.workspace,
    )
