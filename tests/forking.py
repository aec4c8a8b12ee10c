"""Programs that fork, each in a process of its own: a test's own has threads of other tests."""

from __future__ import annotations

import os
import subprocess
import sys

_FORKED = """
import os, signal, sys

def forked(work):
    sys.stdout.flush()
    child = os.fork()
    if not child:
        signal.alarm(20)  # it prints nothing then
        print("child:", work(), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def run_forking(program: str, *arguments: str) -> str:
    """What a program prints, in which `forked` calls a function in a child and prints what that returns."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", _FORKED + program, *arguments],
        env=os.environ | {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
