"""What is imported stays: no search for garbage needs to look through it again, and no fork has to copy it for that.

A process with torch, MLflow, DVC and thousands of tests in it has millions of objects. Each full search through them
takes half a second, and there are dozens in a run. Importing this module is enough where a process is to be forked.
"""

from __future__ import annotations

import gc
import sys

modules = 0
"""How many were imported when it was done last."""


def settle() -> None:
    global modules  # noqa: PLW0603  # of a process there is one
    gc.collect()
    gc.freeze()
    modules = len(sys.modules)


settle()
