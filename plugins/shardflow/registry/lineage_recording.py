"""Finds out what a version that is being registered was made from, where its model says so and its tags do not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from sqlalchemy import select

from shardflow.registry.claims import PARENTS_TAG, Claims, Parent, parents_text
from shardflow.registry.evidence import MODEL_ID, PARENT_TAG, Tracking
from shardflow.registry.tables import Database

_VERSION = SqlModelVersion.__table__


def with_parents(claims: Claims, source: str, db: Database, tracking: Callable[[], Tracking]) -> Claims:
    """The claims of a version to be, with the parent that its logged model names if they name none."""
    found = MODEL_ID.search(source)
    if claims.parents or found is None:
        return claims
    parent = _parent_of(found[1], db, tracking)
    if parent is None:
        return claims
    return replace(claims, parents=(parent,), shown=(*claims.shown, (PARENTS_TAG, parents_text([parent]))))


def _parent_of(model_id: str, db: Database, tracking: Callable[[], Tracking]) -> Parent | None:
    try:
        asking = tracking()
        parent_id = asking.get_logged_model(model_id).tags.get(PARENT_TAG)
        if not parent_id:
            return None
        location = asking.get_logged_model(parent_id).artifact_location
    except MlflowException:  # the model says what it likes; registering it does not fail for that
        return None
    registered = _registered(db, f"models:/{parent_id}", location)
    return registered or Parent(parent_id)


def _registered(db: Database, *sources: str) -> Parent | None:
    """The version that was registered from there, the first of them if there are several."""
    query = select(_VERSION.c.name, _VERSION.c.version).where(_VERSION.c.source.in_(sources))
    query = query.where(_VERSION.c.current_stage != STAGE_DELETED_INTERNAL).order_by(_VERSION.c.creation_time)
    row = db.execute(query.limit(1)).first()
    return Parent(row.name, row.version) if row else None
