"""Saves a training run step by step without holding it up: a step is copied at once, and stored in the background."""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Self

from shardflow.errors import ShardflowError
from shardflow.flavor.checkpointing import files
from shardflow.flavor.checkpointing.errors import Closed, SaveFailed, StateUnusable, StepMissing, StepTaken
from shardflow.flavor.checkpointing.reaching import ROOM_NEEDED
from shardflow.flavor.checkpointing.retention import Retention, StepInfo
from shardflow.flavor.checkpointing.staging import StagingBuffer, StagingBuffers
from shardflow.flavor.checkpointing.steps import MOST_STEPS, Step, Steps
from shardflow.flavor.checkpointing.stored import load_step
from shardflow.flavor.checkpointing.trees import encode_tree, flatten
from shardflow.store.progress import Progress
from shardflow.transport import Cancellation, NoSpace

NICENESS = 10

_Saving = tuple[int, Future[None]]

_log = logging.getLogger(__name__)


class AsyncCheckpointer:
    """The checkpoints of one training run, below one URL; use it as a context manager, or `close` it.

    `save` returns when the state has been copied; everything after that happens in a thread. Each step is stored by
    how it differs from the one before. A step that could not be stored is told by the next call, and at the end. At
    most `buffers` copies of the state exist at once: a `save` that finds them all in use waits until one is stored.
    With two or more, the last step stays in memory until the next one is stored, which is then compared with it there.
    `base` is the URL of a step or a model in the same store that the very first step is close to.
    """

    def __init__(self, url: str, *, keep: Retention | None = None, buffers: int = 2, base: str | None = None) -> None:
        if buffers < 1:
            raise StateUnusable("a state is copied before it is stored", remedy="allow one buffer or more")
        self._steps = Steps(*files.store_for(url))
        self._keep = keep
        self._known = {info.step: info for info in self._steps.complete()}
        self._unfinished = set(self._steps.numbers()) - set(self._known)
        self._base = self._first_base(base)
        self._buffers = StagingBuffers(buffers)
        self._last: StagingBuffer | None = None  # the one that the last step was stored from
        self._saving: deque[_Saving] = deque()
        self._one_call = threading.Lock()
        self._cancel = Cancellation()
        self._thread = ThreadPoolExecutor(1, "shardflow-checkpoint", initializer=_yield_to_others)
        self._closed = False
        self.progress = Progress()  # of the step that is being stored, or was last

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            self.close()
        except SaveFailed:
            if error is None:  # it was logged; what ended the training comes first
                raise

    @property
    def url(self) -> str:
        return self._steps.name

    def save(self, step: int, state: Any, metrics: Mapping[str, float] | None = None, *, replace: bool = False) -> None:
        """Copy a state, and begin to store it; what becomes of its tensors afterwards does not matter.

        A step that is stored already is refused, unless `replace` says so: then the old one counts until all of the
        new one is there.
        """
        with self._one_call:
            self._check_open()
            self._raise_failed()
            self._check_step(step, replace=replace)
            flat = flatten(state)
            tree = encode_tree(flat.tree)
            noted = _finite(metrics or {})
            buffer = self._buffers.take()
            mine = threading.Lock()  # whoever gets it gives the buffer back: the thread, or who knows it never will
            try:
                self._raise_failed()  # of what was waited for
                copied = Step(step, tree, buffer.copy(flat.tensors), noted, replace)
                future = self._submitted(copied, buffer, mine)
                self._saving.append((step, future))
                future.add_done_callback(lambda done: self._take_back(buffer, mine) if done.cancelled() else None)
            except BaseException:
                self._take_back(buffer, mine)
                raise

    def steps(self) -> list[int]:
        """The steps that are complete in the store now."""
        return [info.step for info in self._steps.complete()]

    def history(self) -> list[StepInfo]:
        """The same, with the metrics they were saved with."""
        return self._steps.complete()

    def latest(self) -> int | None:
        """The last complete step, or None if there is none."""
        return self._steps.latest()

    def load(self, step: int | None = None, into: Any = None) -> Any:
        """The state of a step, of the last complete one by default, verified.

        Tensors of `into`, a state of the same form, are filled where they are and returned in their places; they must
        have the shapes and types that were saved.
        """
        number = self.latest() if step is None else step
        if number is None:
            raise StepMissing(f"{self.url} has no complete step", remedy="save one first")
        return load_step(self._steps, number, into)

    def wait(self) -> None:
        """Wait until everything saved so far is stored; raises what failed."""
        saving = list(self._saving)
        for _, future in saving:
            with suppress(CancelledError):
                future.exception()
        self._raise_failed(saving)
        if any(future.cancelled() for _, future in saving):
            raise self._closed_meanwhile()

    def close(self, *, wait: bool = True) -> None:
        """End it: wait for what is being stored, or give it up with `wait=False`; raises what failed.

        Others that save or wait meanwhile are told that it is closed.
        """
        was_open, self._closed = not self._closed, True
        if not wait:
            self._cancel.cancel("the checkpointer was closed")
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._saving.clear()
        if was_open:
            self._thread.shutdown(wait=True)
            self._last = None
            self._buffers.free()
        self._raise_failed()

    def _take_back(self, buffer: StagingBuffer, mine: threading.Lock) -> None:
        """Give back the buffer of a step that the thread has not begun with, and then will not."""
        if mine.acquire(blocking=False):
            self._buffers.give(buffer)

    def _submitted(self, step: Step, buffer: StagingBuffer, mine: threading.Lock) -> Future[None]:
        """To the thread, unless somebody closed the checkpointer while this waited for a buffer, or copied into it."""
        self._check_open()
        try:
            return self._thread.submit(self._store, step, buffer, mine)
        except RuntimeError:
            self._check_open()
            raise

    def _store(self, step: Step, buffer: StagingBuffer, mine: threading.Lock) -> None:
        """What the thread does."""
        if not mine.acquire(blocking=False):
            return  # the save was interrupted
        before = self._buffers.borrow(self._last)
        try:
            self.progress = Progress()
            held = before.holds if before else ()
            buffer.holds = self._steps.write(step, self._base, self.progress, self._cancel, held)
            self._base = self._steps.as_base(step.number)
            self._last = buffer
        except BaseException as error:
            self._unfinished.add(step.number)
            _log.error("step %d of %s was not saved: %s", step.number, self.url, error)  # it is raised
            raise
        finally:
            self._give_back(buffer, before)
        self._unfinished.discard(step.number)
        self._known[step.number] = StepInfo(step.number, step.metrics)
        self._tidy()
        self._buffers.prepare(buffer.size)

    def _give_back(self, buffer: StagingBuffer, before: StagingBuffer | None) -> None:
        """One of the two keeps what it holds: the later one, if it could be stored."""
        if before is not None:
            if buffer.holds:
                before.holds = ()
            self._buffers.give(before)
        self._buffers.give(buffer)

    def _tidy(self) -> None:
        """Remove the names of steps that need not be kept, and of those that were never finished."""
        if self._keep is None:
            return
        kept = self._keep.kept(self._known.values())
        try:
            for number in sorted(set(self._known) - kept):
                self._steps.remove(number)
                self._known.pop(number)
            for number in sorted(self._unfinished):
                self._steps.remove_unfinished(number)
                self._unfinished.discard(number)
        except ShardflowError as error:
            _log.warning("old steps of %s were not removed: %s", self.url, error)  # the next save tries again

    def _raise_failed(self, waited_for: Sequence[_Saving] = ()) -> None:
        """Tell of steps that failed since the last call, and of those that were waited for, whoever knows of them."""
        done = [entry for entry in list(self._saving) if entry[1].done()]
        for entry in done:
            with suppress(ValueError):  # another thread was told at the same moment
                self._saving.remove(entry)
        ended = [entry for entry in dict.fromkeys([*waited_for, *done]) if not entry[1].cancelled()]
        failed = [(number, error) for number, future in ended if (error := future.exception()) is not None]
        if not failed:
            return
        number, error = failed[0]
        others = f" (nor were {', '.join(str(number) for number, _ in failed[1:])})" if len(failed) > 1 else ""
        why = error.message if isinstance(error, ShardflowError) else f"{type(error).__name__}: {error}"
        raise SaveFailed(f"step {number} was not saved{others}: {why}", remedy=_remedy(error)) from error

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_meanwhile()

    def _closed_meanwhile(self) -> Closed:
        return Closed(f"the checkpointer of {self.url} is closed", remedy="open another")

    def _check_step(self, step: int, *, replace: bool) -> None:
        if type(step) is not int or not 0 <= step < MOST_STEPS:
            raise StateUnusable(f"{step!r:.40} is no number of a step", remedy="count from 0")
        if not replace and (step in self._known or any(number == step for number, _ in list(self._saving))):
            raise StepTaken(
                f"step {step} of {self.url} is stored already",
                remedy="go on from the latest step, save under another URL, or pass replace=True",
            )

    def _first_base(self, base: str | None) -> str | None:
        if self._known:
            return self._steps.as_base(max(self._known))
        return files.base_in(self._steps.store, base) if base is not None else None


def _remedy(error: BaseException) -> str:
    """What whoever trains can do; errors of a store speak to those who run commands."""
    if isinstance(error, NoSpace):
        return ROOM_NEEDED
    return error.remedy if isinstance(error, ShardflowError) else "the steps before it are intact"


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Metrics as JSON has them. A loss that is no number any more is left out: no rule could rank it either."""
    numbers = {name: _number(name, value) for name, value in metrics.items()}
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def _number(name: str, value: Any) -> float:
    try:
        return float(value) if math.isfinite(value) else math.nan
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise StateUnusable(
            f"the metric {name} is {value!r:.40}, which is no number", remedy="pass a number, or leave it out"
        ) from None


def _yield_to_others() -> None:
    """Store with what the training leaves over: a thread of Linux has a niceness, and gives it to those it starts."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):  # where that is forbidden, it only takes longer for others
            os.setpriority(os.PRIO_PROCESS, thread, max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread)))
