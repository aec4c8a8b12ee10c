"""One transaction for one act: what MLflow's store writes and what this package writes beside it, or neither.

MLflow's methods open a session each and commit it. Inside an act they are given the act's session instead, so that a
stage, its status, its aliases and its row in the trail come into the database together. Acts take turns (see
`audit.take_turn`), from the first session that writes to the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import TypeAlias

from mlflow.exceptions import MlflowException
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from shardflow.registry.audit import Event, Head, note, take_turn
from shardflow.registry.refusals import not_now

Sessions: TypeAlias = Callable[..., AbstractContextManager[Session]]
"""What MLflow calls a ManagedSessionMaker; `read_only=False` says that it will write."""


class Act:
    """What is done in one transaction; it begins when it is first needed.

    Until then nothing is held: a method of MLflow may ask other servers for something first.
    """

    def __init__(self, sessions: Sessions, ending: ExitStack) -> None:
        self._sessions = sessions
        self._ending = ending
        self._head: Head | None = None

    @cached_property
    def session(self) -> Session:
        """The session of MLflow's methods."""
        session = self._ending.enter_context(self._sessions(read_only=False))
        self._head = take_turn(session.connection())
        return session

    @property
    def db(self) -> Connection:
        """The same transaction, for this package's own statements; a session's detours would cost time."""
        return self.session.connection()

    def note(self, *events: Event) -> None:
        """Add rows to the trail; once, because an act has one end."""
        db = self.db
        note(db, *events, head=self._head)


class Acts:
    """The sessions of one store; each thread has an act of its own, or none."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._mine = threading.local()

    @contextmanager
    def act(self) -> Iterator[Act]:
        """One act, which may not have another one within it."""
        with _told_plainly(), ExitStack() as ending:
            act = Act(self._sessions, ending)
            self._mine.act = act
            ending.callback(setattr, self._mine, "act", None)
            yield act

    @contextmanager
    def session(self, read_only: bool = True) -> Iterator[Session]:
        """What stands in the place of MLflow's sessions. What only reads does so outside of the act."""
        act = getattr(self._mine, "act", None)
        if read_only or act is None:
            with _told_plainly(), self._sessions(read_only=read_only) as own:
                yield own
        else:
            yield act.session
            act.session.flush()


def for_reading(engine: Engine) -> Engine:
    """The same database, each query by itself: a transaction is begun and ended on the way to a server and back."""
    return engine if engine.dialect.name == "sqlite" else engine.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def looking(engine: Engine) -> Iterator[Connection]:
    """A connection for reading outside of an act."""
    with _told_plainly(), engine.connect() as connection:
        yield connection


@contextmanager
def _told_plainly() -> Iterator[None]:
    """A database that went away is told in a line, not in a page of SQL."""
    try:
        yield
    except (MlflowException, OperationalError) as error:
        cause = error.__cause__ if isinstance(error, MlflowException) else error
        if isinstance(cause, OperationalError):
            reason = str(cause.orig).strip().splitlines()[0]
            message = f"Try again: the registry's database failed, and an act is done wholly or not at all ({reason})"
            raise not_now(message) from error
        raise
