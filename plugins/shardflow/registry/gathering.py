"""Finds the facts a policy asks for, in what the registry's database and the tracking store know of a version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME
from sqlalchemy import Row, Select, and_, bindparam, select

from shardflow.registry.evidence import Subject, Tracking, facts_of
from shardflow.registry.facts import VersionFacts
from shardflow.registry.gate import Gate
from shardflow.registry.moving import in_production, standings
from shardflow.registry.parents import parents_of
from shardflow.registry.policy import Policy, policy_for
from shardflow.registry.refusals import not_now
from shardflow.registry.tables import STATEMENTS, Database
from shardflow.registry.terms import Facts, Move

STATED = frozenset({"verdicts", "approvals"})
"""Facts that are in statements."""

_VERSION = SqlModelVersion.__table__

_PLACED = select(_VERSION.c.source, _VERSION.c.storage_location, _VERSION.c.run_id).where(
    _VERSION.c.workspace == DEFAULT_WORKSPACE_NAME,
    _VERSION.c.name == bindparam("b_model"),
    _VERSION.c.version == bindparam("b_version"),
)
_WITH_STATEMENTS = (
    _PLACED.add_columns(STATEMENTS.c.body)
    .select_from(
        _VERSION.outerjoin(
            STATEMENTS, and_(STATEMENTS.c.model == _VERSION.c.name, STATEMENTS.c.version == _VERSION.c.version)
        )
    )
    .order_by(STATEMENTS.c.at, STATEMENTS.c.digest)
)


def gate_for(database_uri: str, tracking_uri: str | None) -> Gate[Policy]:
    """The gate of a registry in a database: the policy of this server, and facts from where it keeps them."""

    def gather(policy: Policy, _: Move, needs: frozenset[str], subject: Subject) -> Facts:
        return facts_of(needs, subject, policy.keys, _AskedFor(tracking_uri))

    return Gate(lambda: policy_for(database_uri), subject_of, gather)


def subject_of(db: Database, facts: VersionFacts, needs: frozenset[str]) -> Subject:
    """What the registry knows of a version that is to move, as far as facts of these names rest on it."""
    rows = _rows_of(db, _WITH_STATEMENTS if needs & STATED else _PLACED, facts)
    subject = _subject(facts, rows[0])
    if needs & STATED:
        subject = replace(subject, statements=tuple(row.body.decode() for row in rows if row.body is not None))
    if "production" in needs:
        subject = replace(subject, production=_serving(db, facts))
    if "lineage_gaps" in needs:
        subject = replace(subject, parents=len(parents_of(db, facts.model, facts.version)))
    return subject


def _serving(db: Database, moving: VersionFacts) -> Subject | None:
    """The version that is in production now, and not the one that is to move."""
    found = standings(db, moving.model, moving.version)
    serving = [one.facts for one in in_production(found) if one.facts.version != moving.version]
    latest = max(serving, key=lambda facts: (facts.entered_at or 0.0, facts.version), default=None)
    return _subject(latest, _rows_of(db, _PLACED, latest)[0]) if latest else None


def _rows_of(db: Database, statement: Select[Any], facts: VersionFacts) -> Sequence[Row[Any]]:
    rows = db.execute(statement, {"b_model": facts.model, "b_version": facts.version}).all()
    if not rows:  # it was there when its standing was read
        raise not_now(f"Try again: {facts.model}/{facts.version} was removed or renamed while it was looked at")
    return rows


def _subject(facts: VersionFacts, row: Row[Any]) -> Subject:
    location = row.storage_location or row.source
    return Subject(facts.model, location, row.source, row.run_id, facts.author, facts.entered_at)


@dataclass(frozen=True, slots=True)
class _AskedFor:
    """The tracking of this registry, which is opened with the first question: most facts have none."""

    uri: str | None

    def get_logged_model(self, model_id: str) -> Any:
        return tracking_for(self.uri).get_logged_model(model_id)

    def get_run(self, run_id: str) -> Any:
        return tracking_for(self.uri).get_run(run_id)


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
