"""Where versions run and ran: each deployment to a target is a row, and any moment of the past can be asked about."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import msgspec
from sqlalchemy import Row, insert, select, update

from shardflow.errors import ShardflowError
from shardflow.registry.legible import legible
from shardflow.registry.tables import DEPLOYMENTS, Database, milliseconds, seconds

DEPLOYMENT_TAG = "shardflow.deployment"


class Outcome(StrEnum):
    """How a deployment ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One attempt to make a version run at a target."""

    target: str
    model: str
    version: int
    at: float
    outcome: Outcome = Outcome.SUCCEEDED
    actor: str = ""
    verified: bool = False
    note: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Report(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A deployment as a client hands it in, as the value of the tag `shardflow.deployment`."""

    target: str
    outcome: Outcome = Outcome.SUCCEEDED
    at: float | None = None
    note: str | None = None


def read_report(text: str) -> Report:
    """The value of the tag, checked."""
    try:
        report = msgspec.json.decode(text, type=Report)
    except msgspec.DecodeError as error:
        raise ShardflowError(
            f"{DEPLOYMENT_TAG} says nothing about a deployment: {error}",
            remedy='write {"target": "...", "outcome": "succeeded"}, or use \'shardflow deploy record\'',
        ) from None
    if not report.target.strip() or len(report.target) > 256 or not report.target.isprintable():
        raise ShardflowError("a target has a name of 1 to 256 letters", remedy="name where the version runs")
    if report.at is not None and not 0 < report.at <= time.time() + 300:
        raise ShardflowError("a deployment has a time in the past", remedy="give its Unix time in seconds")
    return msgspec.structs.replace(report, note=legible(report.note))


def record(db: Database, deployment: Deployment) -> None:
    values = {**asdict(deployment), "at": milliseconds(deployment.at), "outcome": deployment.outcome.value}
    db.execute(insert(DEPLOYMENTS).values(**values))


def deployments(
    db: Database, *, model: str | None = None, version: int | None = None, target: str | None = None
) -> list[Deployment]:
    """All deployments, or those of a model, a version, or to a target; oldest first."""
    query = select(DEPLOYMENTS).order_by(DEPLOYMENTS.c.at, DEPLOYMENTS.c.id)
    for column, wanted in (
        (DEPLOYMENTS.c.model, model),
        (DEPLOYMENTS.c.version, version),
        (DEPLOYMENTS.c.target, target),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    return [_read(row) for row in db.execute(query)]


def running(history: Iterable[Deployment], at: float) -> list[Deployment]:
    """What ran where at a moment: the last deployment to each target that succeeded, unless it was removed since."""
    last: dict[tuple[str, str], Deployment] = {}
    for one in history:
        if one.at <= at and one.outcome is not Outcome.FAILED:
            last[one.target, one.model] = one
    return [one for one in last.values() if one.outcome is Outcome.SUCCEEDED]


def before_the_last(history: Sequence[Deployment]) -> Deployment | None:
    """What ran at a target before what runs there now: where a rollback goes."""
    worked = [one for one in history if one.outcome is Outcome.SUCCEEDED]
    return next((one for one in reversed(worked[:-1]) if one.version != worked[-1].version), None)


def rename_deployments(db: Database, model: str, new_name: str) -> None:
    db.execute(update(DEPLOYMENTS).where(DEPLOYMENTS.c.model == model).values(model=new_name))


def _read(row: Row[Any]) -> Deployment:
    return Deployment(
        row.target,
        row.model,
        row.version,
        seconds(row.at),
        Outcome(row.outcome),
        row.actor,
        row.verified,
        row.note,
    )
