"""The ground of the registry's store: acts that are noted, moves that are judged, refusals that leave a trace."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.orm import Session

from shardflow.registry.actors import current_actor
from shardflow.registry.acts import Act, Acts, Sessions, for_reading, looking
from shardflow.registry.audit import Event
from shardflow.registry.database import plain_uri, prepared, require_one_workspace
from shardflow.registry.facts import are_kept
from shardflow.registry.gate import Case, Gate, Hearing
from shardflow.registry.gathering import gate_for, tracking_for
from shardflow.registry.moving import aliases_of
from shardflow.registry.naming import GREATEST_NUMBER, name_of, require_name
from shardflow.registry.promoting import Wanted, carried_out, cases, hearings, imagined, now, planned
from shardflow.registry.prompts import is_prompt
from shardflow.registry.refusals import Refused, noting
from shardflow.registry.tables import Database
from shardflow.registry.terms import Status

_logger = logging.getLogger("mlflow.shardflow")  # one that MLflow's own set-up shows

T = TypeVar("T")


class GatedStore(SqlAlchemyStore):
    """MLflow's store in a database, and beside it the registry's tables, policy and trail."""

    ManagedSessionMaker: Sessions

    def __init__(
        self, store_uri: str | None = None, tracking_uri: str | None = None, *, gate: Gate[Any] | None = None
    ) -> None:
        require_one_workspace()
        super().__init__(plain_uri(store_uri or ""))
        prepared(self.engine)
        self._reading = for_reading(self.engine)
        self._acts = Acts(self.ManagedSessionMaker)
        self.ManagedSessionMaker = self._acts.session
        self._tracking = lambda: tracking_for(tracking_uri)
        self._gate = gate or gate_for(self.db_uri, tracking_uri)

    def _moved(
        self,
        name: str,
        version: int | str,
        after: Status,
        via: str,
        answer: Callable[[], T],
        *,
        untouched: Callable[[], T] | None = None,
        moved: Callable[[Database], T] | None = None,
        unmoved: Callable[[Act], T] | None = None,
        reason: str | None = None,
        archive_others: bool = False,
    ) -> T:
        """Carry out a move and give MLflow's answer, or `moved` if there is a shorter way to the same once it is done.

        What is none of a model that is there is `untouched`, and what asks for no move is `unmoved`, if these differ
        from the answer.
        """
        number = number_of(version)
        if number is None:
            return (untouched or answer)()
        wanted, at = Wanted(name, number, after, current_actor(), via, reason, archive_others), now()
        with self._refusals_noted():
            ahead, heard = self._heard_ahead(wanted, at)
        with self._act() as act:
            plan = planned(act.db, wanted, at)
            if plan is None:
                return (untouched or answer)()
            found = cases(act.db, self._gate, plan)
            if found != ahead:  # not heard yet, or changed since: who is where, what is stated, the policy
                heard = hearings(self._gate, found)
            act.note(*carried_out(act.db, wanted, plan, heard))
            if unmoved and not plan.moves:
                return unmoved(act)
            return moved(act.db) if moved and plan.moves else answer()

    def _heard_ahead(self, wanted: Wanted, at: float) -> tuple[list[Case[Any] | Hearing], list[Hearing]]:
        """What is said about a move that may rest on evidence; while that is gathered nobody else has to wait."""
        if not self._gate.wants_facts(imagined(wanted, at)):
            return [], []
        with looking(self._reading) as db:
            plan = planned(db, wanted, at)
            found = cases(db, self._gate, plan) if plan else []
        return found, hearings(self._gate, found)

    @contextmanager
    def _act(self) -> Iterator[Act]:
        with self._refusals_noted(), self._acts.act() as act:
            yield act

    @contextmanager
    def _refusals_noted(self) -> Iterator[None]:
        """What is refused comes into the trail, in a transaction of its own: that of the act is gone."""
        try:
            yield
        except Refused as refused:
            try:
                with self._acts.act() as act:
                    act.note(noting(refused, current_actor(), now()))
            except MlflowException as error:
                _logger.warning("A refusal could not be noted: %s", error.message)
            raise

    def _note(
        self,
        act: Act,
        action: str,
        model: str,
        version: int | None = None,
        before: str | None = None,
        after: str | None = None,
    ) -> None:
        act.note(Event(action, model, current_actor(), now(), version, before, after))

    def _populate_model_version_aliases(self, session: Session, name: str, version: ModelVersion) -> ModelVersion:
        """MLflow's own reads every alias of the model, at the end of each lookup and each move."""
        version.aliases = aliases_of(session.connection(), name, version.version)
        return version

    def _is_gated(self, act: Act, name: str, action: str, version: int | None = None) -> bool:
        """Whether a change is one of a model, which must be named as it is registered; prompts pass."""
        if is_prompt(act.db, name) and not are_kept(act.db, name, version):
            return False
        require_name(name_of(act.db, name), name, action, version)
        return True


def number_of(version: int | str) -> int | None:
    """A version as the number that MLflow takes it for, as in " 3" or "+3"; None if it is none, which MLflow says."""
    try:
        number = int(version)
    except (TypeError, ValueError):
        return None
    if abs(number) > GREATEST_NUMBER:
        raise MlflowException(f"No model has a version {str(version)[:20]}...", RESOURCE_DOES_NOT_EXIST)
    return number
