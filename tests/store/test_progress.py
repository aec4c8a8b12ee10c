"""Progress counts what was done, from any thread, and says it as plain data."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from shardflow.store.progress import Progress


def test_reused_bytes_are_part_of_those_done() -> None:
    progress = Progress()
    progress.add(100)
    progress.add(50, reused=50)
    assert (progress.bytes_done, progress.bytes_reused) == (150, 50)


def test_no_count_is_lost_between_threads() -> None:
    progress = Progress()
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(lambda: [progress.add(1, reused=2) for _ in range(1000)]) for _ in range(8)]:
            done.result()
    assert (progress.bytes_done, progress.bytes_reused) == (8000, 16000)


def test_it_is_told_as_plain_data() -> None:
    progress = Progress(files_done=2, files_unchanged=1, packs_sent=3)
    progress.add(10, reused=4)
    progress.totals.add(bytes_sent=6, retries=1)
    assert json.loads(json.dumps(progress.as_dict())) == {
        "files": 2,
        "files_unchanged": 1,
        "bytes": 10,
        "bytes_on_bases": 0,
        "bytes_reused": 4,
        "packs_sent": 3,
        "bytes_sent": 6,
        "bytes_received": 0,
        "objects_written": 0,
        "objects_deleted": 0,
        "reads": 0,
        "retries": 1,
    }
