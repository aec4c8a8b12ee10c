"""Lets a DVC command end as soon as it has done its work.

At its end Python looks at every object that there is for those that only refer to each other. After all that DVC
imports this takes 0.15 s, a fifth of a command that has little to do, and what it finds is given back to the system
with the process anyway. Programs of users may rely on it, so only DVC's own command goes without.
"""

from __future__ import annotations

import atexit
import gc
import sys
from functools import cache
from pathlib import Path

_COMMANDS = {"dvc", "dvc.__main__"}


@cache
def leave_without_looking_back() -> None:
    """Have this process end without a last search for garbage, if it is a DVC command; asked once for each remote."""
    if _main_program() in _COMMANDS:
        atexit.register(gc.freeze)


def _main_program() -> str:
    """The module that runs as the program, or the name of its script."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec else Path(sys.argv[0]).stem
