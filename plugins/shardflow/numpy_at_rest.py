"""Imports numpy for a command that is over soon.

The threads of its linear algebra begin by looking for work for a tenth of a second, each on a processor of its own: as
much as half of what a short command takes. The variable that shortens it is read once, when numpy is imported, and is
taken back for the programs that the command may start.
"""

from __future__ import annotations

import os
import sys

TIMEOUT_VARIABLE = "OPENBLAS_THREAD_TIMEOUT"
_SHORTEST = "4"  # as a power of two of the processor's ticks


def import_numpy_at_rest() -> None:
    """Without effect where numpy is there already, or where somebody else has said how long its threads look."""
    if "numpy" in sys.modules or TIMEOUT_VARIABLE in os.environ:
        return
    os.environ[TIMEOUT_VARIABLE] = _SHORTEST
    try:
        import numpy  # noqa: F401, PLC0415
    finally:
        del os.environ[TIMEOUT_VARIABLE]
