"""What a name means to the database, and in what letters it was registered.

MySQL and MariaDB find `llama` by the name `Llama` as well. Rules, history and lineage know a model by one spelling, so
whatever names it in another is refused.
"""

from __future__ import annotations

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModel
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import and_, bindparam, select

from shardflow.registry.refusals import MALFORMED, Refused
from shardflow.registry.tables import Database

GREATEST_NUMBER = 999_999_999  # of a version: no column of a database takes many more

_MODEL = SqlRegisteredModel.__table__
_VERSION = SqlModelVersion.__table__

_NAME = select(_MODEL.c.name).where(_MODEL.c.workspace == DEFAULT_WORKSPACE_NAME, _MODEL.c.name == bindparam("model"))
_NAME_WITH_VERSION = _NAME.join(
    _VERSION, and_(_VERSION.c.workspace == _MODEL.c.workspace, _VERSION.c.name == _MODEL.c.name)
).where(_VERSION.c.version == bindparam("number"), _VERSION.c.current_stage != STAGE_DELETED_INTERNAL)


def name_of(db: Database, model: str) -> str | None:
    """The name of the model that the database finds; None if it finds none."""
    return db.execute(_NAME, {"model": model}).scalar()


def name_with_version(db: Database, model: str, version: int) -> str | None:
    """The same, if the model has this version."""
    if version > GREATEST_NUMBER:
        return None
    return db.execute(_NAME_WITH_VERSION, {"model": model, "number": version}).scalar()


def require_name(found: str | None, model: str, action: str, version: int | None = None) -> None:
    """Refuse a name that is that of the model which was found only to the database."""
    if found is not None and found != model:
        raise Refused(
            f"write {found}",
            f"{model!r} is another spelling of its name",
            action=action,
            model=found,
            version=version,
            after=model,
            code=MALFORMED,
        )
