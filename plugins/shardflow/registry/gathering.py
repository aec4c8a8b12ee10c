"""Finds the facts a policy asks for, in what the registry's database and the tracking store know of a version."""

from __future__ import annotations

from typing import Any

from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import Engine, select

from shardflow.registry.evidence import Subject, Tracking, facts_of
from shardflow.registry.facts import VersionFacts
from shardflow.registry.gate import Gate
from shardflow.registry.moving import in_production, standings
from shardflow.registry.parents import parents_of
from shardflow.registry.policy import Policy, policy_for
from shardflow.registry.statements import statements_of
from shardflow.registry.tables import Database
from shardflow.registry.terms import Facts, Move

_VERSION = SqlModelVersion.__table__


def gate_for(engine: Engine, database_uri: str, tracking_uri: str | None) -> Gate[Policy]:
    """The gate of a registry in a database: the policy of this server, and facts from where it keeps them."""

    def gather(policy: Policy, move: Move, needs: frozenset[str]) -> Facts:
        with engine.connect() as connection:
            subject = subject_of(connection, move)
        return facts_of(needs, subject, policy.keys, tracking_for(tracking_uri))

    return Gate(lambda: policy_for(database_uri), gather)


def subject_of(db: Database, move: Move) -> Subject:
    """What the registry knows of a version that is to move, and of the one in production now."""
    found = standings(db, move.model, move.version)
    here = next(one.facts for one in found if one.facts.version == move.version)
    serving = [one.facts for one in in_production(found) if one.facts.version != move.version]
    latest = max(serving, key=lambda facts: (facts.entered_at or 0.0, facts.version), default=None)
    return _subject(db, here, _subject(db, latest) if latest else None)


def _subject(db: Database, facts: VersionFacts, production: Subject | None = None) -> Subject:
    ours = _VERSION.c.workspace == DEFAULT_WORKSPACE_NAME
    where = (ours, _VERSION.c.name == facts.model, _VERSION.c.version == facts.version)
    row = db.execute(select(_VERSION.c.source, _VERSION.c.storage_location, _VERSION.c.run_id).where(*where)).one()
    return Subject(
        facts.model,
        row.storage_location or row.source,
        row.source,
        row.run_id,
        facts.author,
        facts.entered_at,
        tuple(one.body.decode() for one in statements_of(db, facts.model, facts.version)),
        production,
        len(parents_of(db, facts.model, facts.version)),
    )


def tracking_for(uri: str | None) -> Tracking:
    """The tracking store of the server that this is part of, or a client of the one that goes with the registry."""
    from flask import has_request_context  # noqa: PLC0415  # clients never serve requests

    if has_request_context():
        from mlflow.server.handlers import _get_tracking_store  # noqa: PLC0415

        store: Any = _get_tracking_store()
        return store  # type: ignore[no-any-return]
    from mlflow import MlflowClient  # noqa: PLC0415  # importing MLflow imports this package's plugin

    client: Any = MlflowClient(uri)
    return client  # type: ignore[no-any-return]
