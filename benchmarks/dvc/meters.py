"""How much a `dvc` command moves: while it runs, to kill it at a certain point, and in all, whether it ended or not."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from desk import DVC, Desk

if TYPE_CHECKING:
    from resource import struct_rusage

BLOCK = 512  # bytes, in which the kernel counts what a process that ended had written
QUIET_SECONDS = 0.5  # what a killed client had handed to the kernel still arrives
LOOK_SECONDS = 0.002


class Meter(Protocol):
    """Counts what one command at a time moves."""

    def begin(self) -> None: ...
    def so_far(self, process: int) -> int: ...
    def in_all(self, usage: struct_rusage) -> int: ...


@dataclass(frozen=True, slots=True)
class Written:
    """What a process writes to disks, as the kernel counts it: on a file system in memory that is nothing."""

    def begin(self) -> None:
        pass

    def so_far(self, process: int) -> int:
        try:
            lines = Path(f"/proc/{process}/io").read_text().splitlines()
        except OSError:
            return 0  # it has just ended
        return int(next(line for line in lines if line.startswith("write_bytes:")).split()[1])

    def in_all(self, usage: struct_rusage) -> int:
        return usage.ru_oublock * BLOCK


@dataclass(slots=True)
class Crossed:
    """What crosses a proxy, whichever process it comes from."""

    count: Callable[[], int]
    _before: int = field(default=0, init=False)

    def begin(self) -> None:
        self._before = self.count()

    def so_far(self, process: int) -> int:  # noqa: ARG002  # the proxy knows only connections
        return self.count() - self._before

    def in_all(self, usage: struct_rusage) -> int:  # noqa: ARG002
        return self.count() - self._before


@dataclass(frozen=True, slots=True)
class Moved:
    """One command."""

    count: int
    killed: bool


def moved(desk: Desk, meter: Meter, *arguments: str, kill_at: int | None = None) -> Moved:
    """Run a command, and `kill -9` it once it has moved so much; a failure of its own ends the benchmark."""
    with tempfile.TemporaryFile("w+") as complaints:
        meter.begin()
        process = subprocess.Popen(
            [*DVC, *arguments], cwd=desk.root, env=desk.env, stdout=subprocess.DEVNULL, stderr=complaints
        )
        try:
            killed, usage = _waited(process, meter, kill_at)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode and not killed:
            complaints.seek(0)
            raise SystemExit(f"dvc {' '.join(arguments)} failed: {complaints.read()[-2000:]}")
    if killed:
        time.sleep(QUIET_SECONDS)
    return Moved(meter.in_all(usage), killed)


def _waited(process: subprocess.Popen[bytes], meter: Meter, kill_at: int | None) -> tuple[bool, struct_rusage]:
    """Whether it was killed, and what it used; `returncode` is set as Popen.wait() would."""
    hit = False
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode == -signal.SIGKILL, usage
        if kill_at is not None and not hit and meter.so_far(process.pid) >= kill_at:
            process.send_signal(signal.SIGKILL)
            hit = True
        time.sleep(LOOK_SECONDS)
