"""Large buffers that cost nothing until touched, and little then."""

from __future__ import annotations

import mmap


def buffer(size: int) -> memoryview:
    """Zeroed memory outside of Python's heap; it goes back to the system when nothing refers to it any more.

    Fresh memory is slow, above all on virtual machines, because each page is faulted in on its own. Huge pages make it
    a five-hundredth of the faults, where the system has them; and buffers are used again wherever they can be.
    """
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE") and size >= 2 << 20:
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)
