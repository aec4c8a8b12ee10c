"""A process that has DVC imported already and forks for each command: real processes, without two seconds of start-up.

Run as a program it is that process: it takes one JSON document a line, and answers each with an exit code.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from threading import Lock

# fmt: off
IMPORTED = (
    "shardflow.dvc.remote", "shardflow.store.gear", "dvc.cli.parser", "dvc.commands.status", "dvc.scm", "dvc.lock",
    "dvc.cachemgr", "dvc.data_cloud", "dvc.dirs", "dvc.utils.strictyaml", "dvc.repo.push", "dvc.repo.fetch",
    "dvc.repo.checkout", "dvc.repo.graph", "dvc.repo.index", "dvc.repo.plots", "dvc.repo.stage", "dvc.repo.trie",
    "dvc.repo.worktree", "dvc.repo.open_repo", "dvc.repo.brancher", "dvc.repo.datasets", "dvc.repo.artifacts",
    "dvc.repo.experiments.run", "dvc.repo.experiments.queue.celery", "dvc.repo.experiments.queue.workspace",
    "dvc.repo.experiments.executor.local", "dvc_data.index.push", "dvc_data.index.fetch", "dvc_data.index.checkout",
    "dvc_data.hashfile.db.local", "dvc_data.hashfile.gc", "networkx.algorithms.dag",
    "scmrepo.git.backend.pygit2.filter",
)
# fmt: on


@dataclass(frozen=True, slots=True)
class Command:
    """A `dvc` command line, and all that its process needs to know."""

    argv: list[str]
    cwd: str
    env: dict[str, str]
    out: str
    err: str
    largest_file: int | None = None  # bytes


class Warm:
    """The process, from the side of the tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._lock = Lock()
        atexit.register(self._end)

    def run(self, command: Command) -> int:
        """The exit code of a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(asdict(command)) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()


@cache
def warm() -> Warm:
    """The one process of this test run."""
    return Warm()


def serve() -> None:
    """Fork for each command until nobody asks any more."""
    for module in IMPORTED:
        with suppress(ModuleNotFoundError):  # which modules there are differs between versions of DVC
            import_module(module)
    gc.collect()
    gc.freeze()  # a child that looked through all this for garbage would have to copy it
    for line in sys.stdin:
        child = os.fork()
        if not child:
            become(Command(**json.loads(line)))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(command: Command) -> None:
    """Run a command, in a process that ends with it."""
    code = 1
    try:
        os.chdir(command.cwd)
        os.environ.clear()
        os.environ.update(command.env)
        for path, stream in ((command.out, sys.stdout), (command.err, sys.stderr)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream.fileno())
        if command.largest_file is not None:
            sys.dont_write_bytecode = True  # half a file would stay of it, and be read by all others
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (command.largest_file, resource.RLIM_INFINITY))
        from dvc.cli import main

        sys.argv = ["dvc", *command.argv]
        try:
            code = main(command.argv) or 0
        except SystemExit as ended:
            code = int(ended.code or 0)
    except BaseException:  # noqa: BLE001  # dvc tells its own failures; this is one of ours
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
