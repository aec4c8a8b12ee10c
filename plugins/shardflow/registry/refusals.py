"""How the registry says no: MLflow's exceptions, what to do first, because pages and clients show a line of them."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_CONFLICT,
    TEMPORARILY_UNAVAILABLE,
)

from shardflow.errors import ShardflowError
from shardflow.registry.audit import MOVED, REFUSED, Event
from shardflow.registry.legible import legible
from shardflow.registry.terms import Actor, Move, Refusal

PERMISSION, CONFLICT, MALFORMED = PERMISSION_DENIED, RESOURCE_CONFLICT, INVALID_PARAMETER_VALUE


class Refused(MlflowException):
    """A change that is not allowed; it is noted in the trail, with what it was to do."""

    def __init__(
        self,
        remedy: str,
        found: str,
        *,
        action: str,
        model: str,
        version: int | None = None,
        before: str | None = None,
        after: str | None = None,
        reason: str | None = None,
        code: int = PERMISSION,
        rules: Sequence[str] = (),
    ) -> None:
        super().__init__(f"{remedy[:1].upper()}{remedy[1:]} ({found})", error_code=code)
        self.action = action
        self.model = model
        self.version = version
        self.before = before
        self.after = after
        self.reason = reason
        self.rules = tuple(rules)


def refused_move(move: Move, refusals: Sequence[Refusal], *, code: int = PERMISSION) -> Refused:
    """A move that the lifecycle or a policy does not allow; every reason is told, the first one first."""
    remedies = "; ".join(refusal.remedy for refusal in refusals)
    found = "; ".join(dict.fromkeys(refusal.found for refusal in refusals))
    return Refused(
        remedies,
        found,
        action=MOVED,
        model=move.model,
        version=move.version,
        before=move.before.value,
        after=move.after.value,
        reason=move.reason,
        code=code,
        rules=[refusal.rule for refusal in refusals],
    )


def not_now(message: str) -> MlflowException:
    return MlflowException(message, error_code=TEMPORARILY_UNAVAILABLE)


def setup_failed(error: ShardflowError) -> MlflowException:
    """Why a registry cannot be opened at all."""
    return MlflowException(f"{error.remedy}: {error.message}", error_code=INTERNAL_ERROR)


def noting(refused: Refused, actor: Actor, at: float) -> Event:
    """The row of the trail for a refusal, which may be of words that not every database keeps."""
    rules = {"rules": list(refused.rules)} if refused.rules else {}
    return Event(
        refused.action,
        legible(refused.model),
        actor,
        at,
        refused.version,
        legible(refused.before),
        legible(refused.after),
        REFUSED,
        legible(refused.reason),
        {"answer": legible(refused.message), **rules},
    )
