"""Inner loops in two forms: numpy's, there at once, and compiled ones, whose machine code is kept for later processes.

Both give the same bytes. numba compiles a loop once on a machine; from then on the kept code is loaded without numba.
"""

from __future__ import annotations

from shardflow.loops.choosing import Loops
from shardflow.loops.loopset import LoopSet
from shardflow.loops.signatures import Loop, Signature, number, read, written

__all__ = ["Loop", "LoopSet", "Loops", "Signature", "number", "read", "written"]
