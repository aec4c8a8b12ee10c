"""Lent memory comes back by itself, and never while someone still looks at it."""

from __future__ import annotations

import numpy as np
import pytest

from shardflow.loans import BufferPool


def address(buffer: memoryview) -> int:
    return int(np.frombuffer(buffer, np.uint8).ctypes.data)


@pytest.mark.parametrize("size", [0, 1, 100, 70_000, 1 << 20, (4 << 20) + 50, 20 << 20])
def test_a_loan_has_the_size_asked_for_and_is_writable(size: int) -> None:
    lent = BufferPool().lend(size)
    lent[:] = b"\x07" * size
    assert len(lent) == size


def test_memory_is_lent_again_once_nothing_refers_to_it() -> None:
    pool = BufferPool()
    first = pool.lend(1 << 20)
    where = address(first)
    del first
    assert address(pool.lend((1 << 20) - 77)) == where


def test_memory_is_not_lent_again_while_any_view_on_it_lives() -> None:
    pool = BufferPool()
    lent = pool.lend(1 << 20)
    where = address(lent)
    views = [lent[5:9], np.frombuffer(lent, np.uint8)[3:][2:], np.frombuffer(lent, "<u4").reshape(-1, 4).T]
    del lent
    while views:
        assert address(pool.lend(1 << 20)) != where
        views.pop()
    others = [pool.lend(1 << 20) for _ in range(2)]
    assert where in {address(other) for other in others}


def test_idle_memory_is_bounded() -> None:
    pool = BufferPool(idle_bytes=4 << 20)
    loans = [pool.lend(1 << 20) for _ in range(10)]
    before = {address(loan) for loan in loans}
    loans.clear()
    assert sum(len(idle) for idle in pool._idle.values()) == 4
    again = [pool.lend(1 << 20) for _ in range(4)]
    assert {address(loan) for loan in again} <= before


def test_an_idle_buffer_that_is_larger_serves_where_loans_are_short() -> None:
    pool = BufferPool(larger_do=True)
    large = address(pool.lend(8 << 20))
    small = pool.lend(100_000)
    assert address(small) == large
    del small
    assert address(pool.lend(8 << 20)) == large, "it came back as what it is"


def test_a_larger_one_is_left_alone_where_loans_may_last() -> None:
    pool = BufferPool()
    large = address(pool.lend(8 << 20))
    assert address(pool.lend(100_000)) != large
