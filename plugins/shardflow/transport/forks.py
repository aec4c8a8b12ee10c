"""What the child of a fork cannot have of its parent: other threads, what they hold, and so the clients of obstore."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from shardflow.transport.errors import ForkedAway

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class _ClientThreads:
    """The threads behind every client of obstore: made with the first request, and only in the process that makes it.

    In the child of a fork a request would wait for them for ever, and obstore cannot make them anew.
    """

    def __init__(self) -> None:
        self._made = False
        self._lost = False

    def use(self, *, over_network: bool) -> None:
        """Say that a request is to be made. Those to memory are answered without the threads."""
        if self._lost and over_network:
            raise ForkedAway(
                "this process was forked from one that had used a remote store, and cannot use one itself",
                remedy="start it with spawn or forkserver, as with DataLoader(..., multiprocessing_context='spawn')",
            )
        self._made = True

    def in_child(self) -> None:
        self._lost = self._made


client_threads = _ClientThreads()
_to_renew: WeakKeyDictionary[Any, Callable[[Any], None]] = WeakKeyDictionary()


def renewed_in_child(owner: T, renew: Callable[[T], None]) -> None:
    """Call `renew` in the child of any fork, for as long as its owner lives: to make its threads and locks anew.

    A thread of the parent may have held a lock, and nobody gives it back in the child.
    """
    _to_renew[owner] = renew


def _in_child() -> None:
    client_threads.in_child()
    for owner, renew in list(_to_renew.items()):
        renew(owner)


os.register_at_fork(after_in_child=_in_child)
