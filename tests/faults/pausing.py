"""Programs that stop in the middle: each waits before a change of its own until it is told to go on or to die."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event, Lock, Thread

from faults.crashing import Crash, Fate

PATIENCE = 60.0


@dataclass
class Stop:
    """The first change below a prefix that has to wait, counted from one; all changes below it after that wait too."""

    below: str
    nth: int = 1
    reached: Event = field(default_factory=Event, repr=False)
    lifted: Event = field(default_factory=Event, repr=False)
    _seen: int = field(default=0, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def __call__(self, _verb: str, key: str) -> None:
        if self.lifted.is_set() or not key.startswith(self.below):
            return
        with self._lock:
            self._seen += 1
            waits = self._seen >= self.nth
        if waits:
            self.reached.set()
            assert self.lifted.wait(PATIENCE), f"nobody let the change of {key} go on"


class Program:
    """One act on a thread of its own; made, it has come to its end, to its death or to its stop."""

    def __init__(self, act: Callable[[Fate], object], fate: Fate, stop: Stop | None = None) -> None:
        self.stop = stop
        self.died = False
        self._fate = fate
        self._failure: BaseException | None = None
        self._ended = Event()
        self._thread = Thread(target=self._run, args=(act,), daemon=True)
        fate.before = stop
        self._thread.start()
        while stop is not None and not (stop.reached.wait(0.002) or self._ended.is_set()):
            pass
        if not self.is_paused:
            self._join()

    @property
    def is_paused(self) -> bool:
        return self.stop is not None and self.stop.reached.is_set() and not self.stop.lifted.is_set()

    def go_on(self) -> None:
        """Let it come to its end; raises what it failed with."""
        assert self.stop is not None
        self.stop.lifted.set()
        self._join()

    def die(self) -> None:
        """The change that it waits for does not happen, nor any other."""
        self._fate.dies_at = 0
        self.go_on()

    def _run(self, act: Callable[[Fate], object]) -> None:
        try:
            act(self._fate)
        except Crash:
            self.died = True
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            self._failure = error
        finally:
            self._ended.set()

    def _join(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the program does not end"
        if self._failure is not None:
            raise self._failure
