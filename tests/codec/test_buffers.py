"""Work space is used again by the thread that it belongs to."""

from __future__ import annotations

import threading

from shardflow.codec.buffers import scratch


def test_work_space_grows_is_kept_and_belongs_to_one_thread() -> None:
    mine = scratch("test", 1000)
    assert mine.size == 1000
    assert scratch("test", 10).ctypes.data == mine.ctypes.data
    assert scratch("test", 5000).size == 5000
    theirs: list[int] = []
    thread = threading.Thread(target=lambda: theirs.append(scratch("test", 5000).ctypes.data))
    thread.start()
    thread.join()
    assert theirs != [scratch("test", 5000).ctypes.data]
