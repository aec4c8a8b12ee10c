"""Work space of a thread, used again and again."""

from __future__ import annotations

import threading
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bytes: TypeAlias = npt.NDArray[np.uint8]


class _Scratch(threading.local):
    """Work space of one thread; each slot grows to the largest size asked for."""

    def __init__(self) -> None:
        self.slots: dict[str, Bytes] = {}


_scratch = _Scratch()


def scratch(slot: str, size: int) -> Bytes:
    """This thread's work space `slot`, valid until the same slot is asked for again."""
    held = _scratch.slots.get(slot)
    if held is None or held.size < size:
        held = _scratch.slots[slot] = np.empty(size, np.uint8)
    return held[:size]
