"""A file of a store on a disk that was opened before a fork is read on in the child, as a DataLoader's worker does."""

from __future__ import annotations

from pathlib import Path

import pytest

from forking import run_forking

OPENED = """
import hashlib, random
import shardflow

content = random.Random(1).randbytes(20 << 20)
with open(f"{sys.argv[1]}/file", "wb") as file:
    file.write(content)
shardflow.init(f"{sys.argv[1]}/store")
shardflow.put(f"{sys.argv[1]}/file", f"{sys.argv[1]}/store/file")
file = shardflow.open(f"{sys.argv[1]}/store/file")
"""


@pytest.mark.parametrize(
    "read",
    [
        "(file.seek(0), file.readall())[1] == content",
        "file.read_at(3, 15 << 20) == content[3:][: 15 << 20]",
        "file.mapped(0, 20 << 20) == content",
        "(file.seek(5), file.read(9))[1] == content[5:14]",
    ],
)
def test_it_is_read_there_whatever_was_read_before(read: str, tmp_path: Path) -> None:
    program = f"""
print({read})
for _ in range(2):
    forked(lambda: {read})
print({read})
"""
    assert run_forking(OPENED + program, str(tmp_path)).splitlines() == ["True", "child: True", "child: True", "True"]


def test_pages_that_were_mapped_before_are_there_still(tmp_path: Path) -> None:
    program = "pages = file.mapped(0, 20 << 20)\nforked(lambda: pages == content)"
    assert run_forking(OPENED + program, str(tmp_path)) == "child: True\n"


def test_it_is_read_there_while_threads_of_the_parent_read_it_too(tmp_path: Path) -> None:
    program = """
import threading, time
ends = threading.Event()

def read_on(seed):
    where = random.Random(seed)
    while not ends.is_set():
        at = where.randrange(16 << 20)
        assert file.read_at(at, 3 << 20) == content[at : at + (3 << 20)]

threads = [threading.Thread(target=read_on, args=[seed]) for seed in range(3)]
for thread in threads:
    thread.start()
for _ in range(10):
    time.sleep(0.02)
    forked(lambda: file.read_at(0, 12 << 20) == content[: 12 << 20])
ends.set()
for thread in threads:
    thread.join()
"""
    assert run_forking(OPENED + program, str(tmp_path)) == 10 * "child: True\n"


def test_a_closed_one_stays_closed(tmp_path: Path) -> None:
    program = """
file.close()

def refused():
    try:
        file.read_at(0, 1)
    except ValueError:
        return "closed"

forked(refused)
"""
    assert run_forking(OPENED + program, str(tmp_path)) == "child: closed\n"
