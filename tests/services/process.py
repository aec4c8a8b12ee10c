"""Starts a server as a child process, waits until it answers, and ends it: by its own id and never by name."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, Self

from services.service import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path


def free_port() -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether an HTTP server answers at this URL, with whatever status."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return True
    except OSError:
        return False


def clean_environment(home: Path) -> dict[str, str]:
    """An environment without the caller's cloud settings, Python paths and home."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}
    return kept | {"HOME": str(home), "TMPDIR": str(home)}


def run(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
    """Runs a preparing command to its end."""
    with log.open("ab") as sink:
        status = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env, check=False)
    if status.returncode:
        raise ServerFailed(f"{' '.join(argv[:3])}... ended with status {status.returncode}\n{tail(log)}")


def tail(log: Path, lines: int = 20) -> str:
    """The end of a log file, for a failure message."""
    if not log.exists():
        return f"(no log at {log})"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


class Process(Protocol):
    """What is asked of a process that leads a session of its own, however it was started."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Running:
    """A server in a process that was started."""

    def __init__(self, process: Process, name: str, log: Path, stopped_by: signal.Signals = signal.SIGTERM) -> None:
        self.log = log
        self._process = process
        self._name = name
        self._stopped_by = stopped_by

    def wait_until(self, ready: Callable[[], bool], seconds: float = 60.0) -> None:
        """Returns when `ready` says so; ServerFailed with the log when the process ends or time runs out first."""
        deadline = time.monotonic() + seconds
        while not ready():
            if (status := self._process.poll()) is not None:
                raise ServerFailed(f"{self._name} ended with status {status}\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"{self._name} did not answer within {seconds:.0f} s\n{tail(self.log)}")
            time.sleep(0.05)

    def stop(self, patience: float = 10.0) -> None:
        """Asks the process to end; kills it and its children after `patience` seconds."""
        with suppress(ProcessLookupError):
            if self._process.poll() is None:
                os.kill(self._process.pid, self._stopped_by)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class ServerProcess(Running):
    """One server in the foreground of its own process; it goes when the test run goes, even by `kill -9`.

    `orphaned` is the signal it gets then: SIGKILL, unless it has children of its own to end. `user` is for root alone,
    who may start a server as somebody else.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        *,
        stopped_by: signal.Signals = signal.SIGTERM,
        orphaned: signal.Signals = signal.SIGKILL,
        user: str | None = None,
    ) -> None:
        with log.open("ab") as sink:
            process = subprocess.Popen(
                [*_starter(orphaned, user), *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=env,
                start_new_session=True,  # Ctrl-C is for the test run, which then stops its servers in order
            )
        super().__init__(process, argv[0].rpartition("/")[2], log, stopped_by)


def as_user(user: str | None) -> list[str]:
    """What stands before a command that root runs as somebody else."""
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user else []


def _starter(orphaned: signal.Signals, user: str | None) -> list[str]:
    if not shutil.which("setpriv"):  # part of util-linux; elsewhere a killed test run leaves its servers behind
        return []
    dies_with_its_parent = ["--pdeathsig", orphaned.name.removeprefix("SIG")]
    return [*(as_user(user) or ["setpriv"]), *dies_with_its_parent]
