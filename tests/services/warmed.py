"""Processes that have torch, MLflow and Shardflow imported when they begin: real ones, without seconds of start-up.

Each is forked from one process of the run that has imported them and does nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from multiprocessing import forkserver, get_context
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

import pytest

METHOD = "forkserver"
IMPORTED = (
    "flavor.dcp.ranks",
    "mlflow.cli",
    "mlflow.server.handlers",
    "mlflow.store.db.utils",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracking.fluent",
    "services.mlflow_commands",
    "shardflow.flavor.checkpointing",
    "shardflow.store.gear",
    "uvicorn",
    "services.settling",  # the last
)


@cache
def warm() -> ForkServerContext:
    """What makes such processes."""
    context = get_context(METHOD)
    context.set_forkserver_preload(list(IMPORTED))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        environment.setenv("MLFLOW_DISABLE_TELEMETRY", "true")  # whose thread no fork would have
        forkserver.ensure_running()
    return context


def start(work: Callable[..., None], *arguments: Any, **options: Any) -> ForkServerProcess:
    """A process that does this work, a function that it can import, in the environment that is here now."""
    return start_in(os.environ, work, *arguments, **options)


def start_in(
    environment: Mapping[str, str], work: Callable[..., None], *arguments: Any, **options: Any
) -> ForkServerProcess:
    """The same in an environment of its own."""
    process = warm().Process(target=_begin, args=(dict(environment), work, arguments, options), daemon=True)
    process.start()
    return process


def _begin(
    environment: Mapping[str, str], work: Callable[..., None], arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    work(*arguments, **options)


def program(text: str, *arguments: str) -> ForkServerProcess:
    """A process that runs a program given as text."""
    return start(_run, text, arguments)


def finish(process: ForkServerProcess, seconds: float = 120) -> None:
    """Wait until it ends, which it must do well."""
    process.join(seconds)
    assert process.exitcode == 0, "it did not end" if process.exitcode is None else f"exit code {process.exitcode}"


def _run(text: str, arguments: tuple[str, ...]) -> None:
    sys.argv = ["-c", *arguments]
    exec(compile(text, "<program>", "exec"), {"__name__": "__main__"})
