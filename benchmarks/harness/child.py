"""Runs work in processes of its own, so that no run inherits another's memory, threads or connections.

A process's peak is what the kernel counted for its own memory map (VmHWM). `ru_maxrss`, which `wait4` returns, begins
at what the parent occupied when it started the child, so it only serves where there is no /proc.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

BENCHMARKS = Path(__file__).parents[1]
SHARDFLOW = (sys.executable, "-m", "shardflow.cli")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a child did."""

    seconds: float  # of the operation alone, its libraries being imported already
    process_seconds: float  # from starting the process to its end
    cpu_seconds: float  # of the operation, over all its threads
    peak_bytes: int
    result: dict[str, Any]  # what the operation said of itself


@dataclass(frozen=True, slots=True)
class Ended:
    """A process that is over."""

    status: int
    seconds: float
    peak_bytes: int
    output: str

    @property
    def killed(self) -> bool:
        return self.status == -signal.SIGKILL


class ChildFailed(SystemExit):
    """A child ended with an error: no figure is worth more than that."""

    def __init__(self, what: str, ended: Ended, complaints: str) -> None:
        super().__init__(f"{what} ended with status {ended.status}\n{complaints[-4000:]}")


def perform(task: str, env: Mapping[str, str], **parameters: Any) -> Outcome:
    """One of `harness.tasks`, with these parameters."""
    path = os.pathsep.join(part for part in (str(BENCHMARKS), env.get("PYTHONPATH", "")) if part)
    argv = [sys.executable, "-m", "harness.tasks", task, json.dumps(parameters)]
    ended = finished(argv, {**env, "PYTHONPATH": path})
    said = json.loads(ended.output.splitlines()[-1])
    peak = said["peak_bytes"] or ended.peak_bytes
    return Outcome(said["seconds"], ended.seconds, said["cpu_seconds"], peak, said["result"])


def finished(argv: Sequence[str], env: Mapping[str, str]) -> Ended:
    """Run a command to its end; ChildFailed if it reports an error."""
    with tempfile.TemporaryFile("w+") as complaints:
        ended = _run(argv, env, complaints, None)
        if ended.status:
            complaints.seek(0)
            raise ChildFailed(" ".join(argv[:4]), ended, complaints.read())
    return ended


def killed_after(seconds: float, argv: Sequence[str], env: Mapping[str, str]) -> Ended:
    """Start a command and `kill -9` it after so long; it may be over before."""
    with tempfile.TemporaryFile("w+") as complaints:
        ended = _run(argv, env, complaints, seconds)
        if ended.status and not ended.killed:
            complaints.seek(0)
            raise ChildFailed(" ".join(argv[:4]), ended, complaints.read())
    return ended


def _run(argv: Sequence[str], env: Mapping[str, str], complaints: IO[str], patience: float | None) -> Ended:
    with tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        process = subprocess.Popen(argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=complaints)
        try:
            usage = _waited(process, began, patience)
        except BaseException:
            process.kill()
            process.wait()
            raise
        seconds = time.perf_counter() - began
        output.seek(0)
        said = output.read()
    scale = 1 if sys.platform == "darwin" else 1024
    return Ended(process.returncode, seconds, usage.ru_maxrss * scale, said)


def _waited(process: subprocess.Popen[bytes], began: float, patience: float | None) -> Any:
    """What the child used in all; `returncode` is set as Popen.wait() would."""
    while patience is not None:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        if time.perf_counter() - began >= patience:
            process.send_signal(signal.SIGKILL)
            patience = None
        else:
            time.sleep(0.001)
    else:
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage
