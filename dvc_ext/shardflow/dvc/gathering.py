"""Requests that several threads make at the same time, done together by one of them.

DVC hands on one file at a time, to many threads. A writer for each of them would hold a pack and a pool of threads
each; together they share one, and small files share packs.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from typing import Generic, TypeVar

R = TypeVar("R")


class Turn(Generic[R]):
    """One thread's request, and how it ended."""

    __slots__ = ("called", "error", "leads", "request")

    def __init__(self, request: R) -> None:
        self.request = request
        self.called = Event()
        self.leads = False
        self.error: BaseException | None = None


class Gathered(Generic[R]):
    """Whoever comes first works for all who wait by then; who comes meanwhile is done together afterwards."""

    def __init__(self, work: Callable[[list[Turn[R]]], None]) -> None:
        self._work = work
        self._lock = Lock()
        self._waiting: list[Turn[R]] = []
        self._led = False

    def do(self, request: R) -> None:
        """Return when the request is done; raises what it failed with."""
        turn = Turn(request)
        with self._lock:
            self._waiting.append(turn)
            if not self._led:
                self._led = turn.leads = True
        if not turn.leads:
            self._wait(turn)
        if turn.leads:
            self._lead()
        if turn.error is not None:
            raise turn.error

    def _wait(self, turn: Turn[R]) -> None:
        try:
            turn.called.wait()
        except BaseException:  # Ctrl-C: whoever leads must not be chosen and gone
            with self._lock:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                if turn.leads:
                    self._pass_on()
            raise

    def _lead(self) -> None:
        with self._lock:
            turns, self._waiting = self._waiting, []
        try:
            self._work(turns)
        except BaseException as error:
            for turn in turns:
                turn.error = turn.error or error
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                self._pass_on()
            for turn in turns:
                turn.called.set()

    def _pass_on(self) -> None:
        """Whoever waited longest leads next."""
        self._led = bool(self._waiting)
        if self._waiting:
            self._waiting[0].leads = True
            self._waiting[0].called.set()
