"""`mlflow` commands in processes of their own that have MLflow imported when they begin.

`mlflow server` starts a second process for its pages and calls. Here that one is forked too, before the command does
anything, and becomes what the command asks for.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from importlib import reload
from pathlib import Path
from signal import SIGKILL
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Any

from services.warmed import start_in

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PDEATHSIG = 1


class MlflowCommand:
    """A command that began; the lines it says go to the end of a file."""

    def __init__(self, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self._process = start_in(environment, run_command, list(arguments), Path.cwd(), log)
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired("mlflow", timeout or 0)
        return self._process.exitcode


def mlflow_says(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """The exit code of a command, and all that it said; `environment` adds to the one of the tests."""
    code = MlflowCommand(arguments, log, {**os.environ, **(environment or {})}).wait(240)
    return code, log.read_text()


def run_command(arguments: Sequence[str], directory: Path, log: Path) -> None:
    """What `mlflow` does with these arguments, in this process."""
    _leave_for(directory, log)
    follower = Follower()
    from mlflow import cli, server

    server._exec_cmd = follower.become  # type: ignore[attr-defined]
    sys.argv = ["mlflow", *arguments]
    cli.cli()


class Follower:
    """A process as it was before the command did anything; it waits to become another."""

    def __init__(self) -> None:
        told, self._tells = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os.close(self._tells)
            _end_with_parent()
            _follow(told)
        os.close(told)
        self._code: int | None = None

    def become(self, command: Sequence[str], *, extra_env: Mapping[str, str], **_: Any) -> Follower:
        """In the place of MLflow's way to start a process: `python -m module arguments...`."""
        wanted = {"module": command[2], "arguments": list(command[3:]), "environment": {**os.environ, **extra_env}}
        with os.fdopen(self._tells, "w") as tells:
            json.dump(wanted, tells)
        return self

    def poll(self) -> int | None:
        """What MLflow asks of such a process."""
        if self._code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _follow(told: int) -> None:
    code = 1
    try:
        with os.fdopen(told) as tells:
            text = tells.read()
        if text:
            wanted = json.loads(text)
            os.environ.clear()
            os.environ.update(wanted["environment"])
            sys.argv = [wanted["module"], *wanted["arguments"]]
            import mlflow.server

            reload(mlflow.server)  # what it is depends on the environment that it is imported in
            runpy.run_module(wanted["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os._exit(code)


def _leave_for(directory: Path, log: Path) -> None:
    os.chdir(directory)
    os.setsid()  # Ctrl-C is for the test run, which then stops its servers in order
    _end_with_parent()
    sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(sink, stream.fileno())
    os.close(sink)


def _end_with_parent() -> None:
    """Where the kernel can: elsewhere a killed test run leaves its servers behind."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PDEATHSIG, SIGKILL)
