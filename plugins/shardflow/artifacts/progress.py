"""MLflow's own progress bar over a put or a get: one for a whole directory, in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from mlflow.environment_variables import MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR

from shardflow.store.progress import Progress

_SECONDS = 0.2


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """Counters that a bar follows for as long as the work takes, unless the user wants no bars."""
    progress, bar = Progress(), _bar(what)
    if bar is None:
        yield progress
        return
    ended = Event()
    follower = Thread(target=_follow, args=(bar, progress, ended), name="shardflow-progress", daemon=True)
    follower.start()
    try:
        yield progress
    finally:
        ended.set()
        follower.join()
        _update(bar, progress)
        bar.close()


def _bar(what: str) -> Any | None:
    if not MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR.get():
        return None
    try:
        from tqdm.auto import tqdm  # noqa: PLC0415  # MLflow does without it too
    except ImportError:
        return None
    return tqdm(desc=what, total=0, unit="B", unit_scale=True, unit_divisor=1024)


def _follow(bar: Any, progress: Progress, ended: Event) -> None:
    while not ended.wait(_SECONDS):
        _update(bar, progress)


def _update(bar: Any, progress: Progress) -> None:
    bar.total = progress.bytes_total
    bar.n = progress.bytes_done
    bar.refresh()
