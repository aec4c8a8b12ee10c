"""Starting and ending servers, above all when they do not do as they should."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from services.process import ServerProcess, answers, clean_environment, free_port, run
from services.service import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"


def python(code: str, home: Path) -> ServerProcess:
    return ServerProcess([sys.executable, "-c", code], home / "log", clean_environment(home))


def test_a_server_that_ends_at_once_is_told_with_its_log(tmp_path: Path) -> None:
    server = python("raise SystemExit('no disk')", tmp_path)
    with server, pytest.raises(ServerFailed, match=r"ended with status 1\nno disk"):
        server.wait_until(lambda: False)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    server = python("import time; time.sleep(60)", tmp_path)
    with server, pytest.raises(ServerFailed, match="did not answer within 0 s"):
        server.wait_until(lambda: False, seconds=0.1)


def test_a_server_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    with python(DEAF, tmp_path) as server:
        server.wait_until(lambda: "up" in (tmp_path / "log").read_text())
        began = time.monotonic()
        server.stop(patience=0.2)
        assert time.monotonic() - began < 5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
def test_a_killed_test_run_leaves_no_server_behind(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from services.process import ServerProcess, clean_environment\n"
        "home = Path(sys.argv[1])\n"
        "argv = [sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(60)']\n"
        "ServerProcess(argv, home / 'log', clean_environment(home)); sys.stdin.read()"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, env=env) as parent:
        log = tmp_path / "log"
        wait_for(lambda: log.exists() and log.read_text().endswith("\n"))
        parent.send_signal(signal.SIGKILL)
    wait_for(lambda: not alive(int(log.read_text())))


def test_a_failed_preparation_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="exit 3"):
        run(["sh", "-c", "echo no keyring; exit 3"], tmp_path / "log", clean_environment(tmp_path))


def test_nobody_answers_on_a_free_port() -> None:
    assert not answers(f"http://127.0.0.1:{free_port()}/")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
