"""Starts an MLflow server on this machine for a demonstration, and says plainly what is wrong if it does not start."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 120.0  # seconds; the first start makes the tables of the database
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


@contextmanager
def mlflow_server(directory: Path, artifact_root: str, port: int) -> Iterator[str]:
    """A server on SQLite while the context lasts; yields its address. Port 0 stands for any free one.

    Its models are registered by the rules of `shardflow-sqlite`, in the same database.
    """
    port = _free(port)
    database, log = f"sqlite:///{directory}/mlflow.db", directory / "server.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--registry-store-uri", f"shardflow-{database}"]
    command += ["--default-artifact-root", artifact_root]
    print("$ mlflow", " ".join(command[3:]), flush=True)
    with log.open("wb") as output:
        server = subprocess.Popen(  # noqa: S603
            command, stdout=output, stderr=output, env={**os.environ, **QUIET}, start_new_session=True
        )
    try:
        _wait_for(server, f"http://127.0.0.1:{port}", log)
        yield f"http://127.0.0.1:{port}"
    finally:
        _stop(server)


def _free(port: int) -> int:
    """The port, if nobody has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            sys.exit(f"port {port} cannot be had ({error.strerror}): pass another with --port, or none for a free one")
        return int(probe.getsockname()[1])


def _wait_for(server: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not _answers(f"{address}/health"):
        if server.poll() is not None:
            sys.exit(f"the MLflow server ended with exit code {server.returncode}; the end of {log}:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            sys.exit(f"the MLflow server did not answer in {PATIENCE:.0f} s; the end of {log}:\n{_end_of(log)}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()  # noqa: S310
    except (urllib.error.URLError, OSError):
        return False
    return True


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
