"""The child of a fork makes its threads and locks anew, and says which clients it cannot use; it never just waits."""

from __future__ import annotations

from forking import run_forking

REMOTE = """
from shardflow.errors import ShardflowError
from shardflow.transport import RetryPolicy, StoreURL, connect

options = {"endpoint": "http://127.0.0.1:9", "region": "r"}
remote = connect(StoreURL.parse("shardflow://s3/bucket/models"), options, RetryPolicy(attempts=1))

def told(work):
    try:
        return work()
    except ShardflowError as error:
        return type(error).__name__ + (": " + error.remedy if type(error).__name__ == "ForkedAway" else "")

def read():
    return told(lambda: remote.read("key"))
"""

REFUSED = (
    "child: ForkedAway: start it with spawn or forkserver, as with DataLoader(..., multiprocessing_context='spawn')"
)


def test_the_child_of_a_process_that_used_a_remote_store_is_told_that_it_cannot() -> None:
    """What would answer it are threads of its parent, and it would wait for them for ever."""
    assert run_forking(REMOTE + "print(read()); forked(read)").splitlines() == ["Unreachable", REFUSED]


def test_every_request_is_refused_there() -> None:
    program = """
print(read())
for work in (
    lambda: remote.read_range("key", 0, 100 << 20),
    lambda: remote.write("key", b"data"),
    lambda: remote.head("key"),
    lambda: remote.delete("key"),
    lambda: list(remote.list()),
    lambda: remote.list_names(),
    lambda: remote.conditional_deletes,
):
    forked(lambda: told(work))
"""
    assert run_forking(REMOTE + program).splitlines() == ["Unreachable", *[REFUSED] * 7]


def test_a_large_read_in_the_child_does_not_wait_for_the_threads_of_another() -> None:
    program = """
large = lambda: told(lambda: remote.read_range("key", 0, 100 << 20))
print(large())
forked(large)
"""
    assert run_forking(REMOTE + program).splitlines() == ["Unreachable", REFUSED]


def test_a_child_uses_remote_stores_if_its_parent_only_named_them() -> None:
    assert run_forking(REMOTE + "forked(read); print(read())").splitlines() == ["child: Unreachable", "Unreachable"]


def test_a_childs_child_is_told_too() -> None:
    program = "print(read()); forked(lambda: forked(read))"
    assert run_forking(REMOTE + program).splitlines() == ["Unreachable", REFUSED, "child: None"]


def test_a_child_keeps_what_is_in_memory_and_its_parents_disk() -> None:
    program = """
memory = connect(StoreURL.parse("shardflow://memory/forks"))
memory.write("key", b"data")
forked(lambda: (bytes(memory.read("key")), memory.head("key").size, [info.key for info in memory.list()]))
"""
    assert run_forking(REMOTE + program) == "child: (b'data', 4, ['key'])\n"


def test_what_threads_of_the_parent_have_of_a_budget_is_free_in_the_child() -> None:
    program = """
import threading
from shardflow.transport import ByteBudget
budget, taken = ByteBudget(10), threading.Event()

def take_and_stay():
    budget.acquire(10)
    with budget._lock:
        taken.set()
        threading.Event().wait(5)

threading.Thread(target=take_and_stay, daemon=True).start()
taken.wait()

def use():
    with budget.hold(7):
        return budget.out

forked(use)
print(budget.out)
"""
    assert run_forking(program).splitlines() == ["child: 7", "10"]
