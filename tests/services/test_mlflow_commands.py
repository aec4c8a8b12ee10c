"""Commands of MLflow that were forked do what those do that were started, and end with those who started them."""

from __future__ import annotations

import os
import signal
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from services.mlflow_commands import MlflowCommand, mlflow_says
from services.process import Running, answers, free_port


def test_a_command_ends_with_its_code_and_what_it_says(tmp_path: Path) -> None:
    assert mlflow_says(["--version"], tmp_path / "version") == (0, f"mlflow, version {version('mlflow')}\n")
    code, said = mlflow_says(["gc", "--no-such-option"], tmp_path / "gc")
    assert code == 2
    assert "No such option" in said


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_of_a_server_that_is_killed_no_process_stays(tmp_path: Path) -> None:
    port = free_port()
    command = [
        "server",
        "--port",
        str(port),
        "--workers",
        "1",
        "--backend-store-uri",
        f"sqlite:///{tmp_path}/mlflow.db",
    ]
    process = MlflowCommand(command, tmp_path / "log", {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
    server = Running(process, "mlflow server", tmp_path / "log")
    server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while answers(f"http://127.0.0.1:{port}/health"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
