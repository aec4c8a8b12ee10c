"""Puts pages of files where a program's own memory is: what is read from there need not be copied.

Such memory is private: who writes to it gets a copy of the page, and the file stays as it is. While nobody writes, all
processes that map a file share what the system holds of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from shardflow.transport.local_forcing import TRUSTED, kind_of_file_system

if TYPE_CHECKING:
    from pathlib import Path

PAGE_BYTES = mmap.PAGESIZE
POPULATE_READ = 22
"""What `madvise` is told to read pages in and to say whether it could; reading them otherwise would end the process."""

# A file that another machine may cut short, or that may be out of reach for a while, is better copied.
OF_THIS_MACHINE = {*TRUSTED, 0x794C7630, 0x2FC12FC1}  # and overlays, and ZFS

_FIXED = 0x10
_FAILED = ctypes.c_void_p(-1).value


def pages_at_hand(directory: Path) -> bool:
    """Whether files in a directory can be mapped, and stay what they are."""
    return sys.platform == "linux" and _populates() and kind_of_file_system(directory) in OF_THIS_MACHINE


def map_pages(fd: int, start: int, room: memoryview) -> None:
    """Put what a file has from `start` on in the place of whole pages of anonymous memory."""
    address = np.frombuffer(room, np.uint8).ctypes.data
    if address % PAGE_BYTES or start % PAGE_BYTES or len(room) % PAGE_BYTES:
        raise ValueError(f"cannot map {len(room)} bytes at {start}: they are no whole pages")
    allowed = mmap.PROT_READ | mmap.PROT_WRITE
    if _mmap()(address, len(room), allowed, mmap.MAP_PRIVATE | _FIXED, fd, start) == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@cache
def _populates() -> bool:
    """Whether this kernel does: Linux 5.14 and later."""
    try:
        mmap.mmap(-1, PAGE_BYTES).madvise(POPULATE_READ)
    except OSError:
        return False
    return True


@cache
def _mmap() -> ctypes._FuncPointer:
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    function.argtypes = (
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_ssize_t,
    )
    return function
