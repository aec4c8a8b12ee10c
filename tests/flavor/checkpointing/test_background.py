from __future__ import annotations

import errno
import os
import threading
from typing import Any

import pytest

from flavor.checkpointing.samples import Gate, near, same, state
from shardflow.flavor.checkpointing import AsyncCheckpointer, Retention, checkpointer
from shardflow.flavor.checkpointing.errors import (
    Closed,
    SaveFailed,
)
from shardflow.flavor.checkpointing.steps import Steps
from shardflow.store.writer import Writer
from shardflow.transport import local


def test_a_save_that_finds_no_buffer_waits_for_one(url: str, gate: Gate) -> None:
    with AsyncCheckpointer(url, buffers=2) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.save(2, state(2))
        third = threading.Thread(target=checkpoints.save, args=(3, state(3)))
        third.start()
        third.join(0.3)
        assert third.is_alive()
        gate.opened.set()
        third.join(60)
        checkpoints.wait()
        assert checkpoints.steps() == [1, 2, 3]
        assert same(checkpoints.load(3), state(3))


def test_a_full_disk_is_told_by_the_next_call_and_the_step_before_is_intact(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def full(descriptor: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.wait()
        with monkeypatch.context() as broken:
            broken.setattr(local.os, "write", full)
            checkpoints.save(2, state(2))
            while checkpoints._saving[0][1].exception() is None:
                pass
        assert os.write is real
        with pytest.raises(SaveFailed, match=r"step 2 was not saved: .*no space left.*free some space"):
            checkpoints.save(3, state(3))
        assert checkpoints.latest() == 1
        assert same(checkpoints.load(), state(1))
        checkpoints.save(3, state(3))
        checkpoints.wait()
        assert same(checkpoints.load(), state(3))


def test_what_fails_last_is_told_at_the_end(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "write", _broken)
    checkpoints = AsyncCheckpointer(url, buffers=3)
    checkpoints.save(1, state(1))
    with pytest.raises(SaveFailed, match="step 1 was not saved: RuntimeError: broken"):
        checkpoints.close()
    checkpoints.close()
    with pytest.raises(Closed):
        checkpoints.save(2, state(2))


def _broken(*_: Any) -> None:
    raise RuntimeError("broken")


def test_an_error_of_the_training_is_not_hidden_by_one_of_a_save(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Steps, "write", _broken)
    with pytest.raises(ZeroDivisionError):
        _save_and_fail(url)


def _save_and_fail(url: str) -> None:
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
        raise ZeroDivisionError


def test_several_failures_are_told_at_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = AsyncCheckpointer(url, buffers=3)
    gate = Gate(monkeypatch)
    monkeypatch.setattr(Steps, "remove", _broken)
    checkpoints.save(1, state(1))
    assert gate.reached.wait(60)
    monkeypatch.setattr(Steps, "write", _broken)
    checkpoints.save(2, state(2))
    checkpoints.save(3, state(3))
    gate.opened.set()
    with pytest.raises(SaveFailed, match=r"step 2 was not saved \(nor were 3\)"):
        checkpoints.wait()
    checkpoints.close()
    assert checkpoints.steps() == [1]


def test_a_checkpointer_may_be_given_up(url: str, gate: Gate) -> None:
    checkpoints = AsyncCheckpointer(url)
    checkpoints.save(1, state(1))
    checkpoints.save(2, state(2))
    assert gate.reached.wait(60)
    closing = threading.Thread(target=checkpoints.close, kwargs={"wait": False})
    closing.start()
    while not checkpoints._cancel.cancelled:
        pass
    gate.opened.set()
    closing.join(60)
    assert checkpoints.steps() == []


def test_steps_that_cannot_be_removed_are_tried_again(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with AsyncCheckpointer(url, keep=Retention(last=1)) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.wait()
        with monkeypatch.context() as broken:
            broken.setattr(Steps, "remove", _denied)
            checkpoints.save(2, state(2))
            checkpoints.wait()
        assert "were not removed: denied" in caplog.text
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(3, state(3))
        checkpoints.wait()
        assert checkpoints.steps() == [3]


def _denied(*_: Any) -> None:
    raise checkpointer.ShardflowError("denied")


def test_the_step_before_is_not_fetched_while_it_is_in_memory(url: str) -> None:
    received = []
    for buffers in (2, 1):
        first = state(buffers, rows=2048)
        with AsyncCheckpointer(f"{url}/{buffers}", buffers=buffers) as checkpoints:
            checkpoints.save(0, first)
            checkpoints.wait()
            checkpoints.save(1, near(first, 1))
            checkpoints.wait()
            received.append(checkpoints.progress.totals.bytes_received)
            assert checkpoints.progress.totals.bytes_sent < 0.12 * first["weights"].nbytes
            assert same(checkpoints.load(), near(first, 1))
    assert received[0] < 0.1 * first["weights"].nbytes < 0.5 * first["weights"].nbytes < received[1]


def test_memory_that_is_not_what_was_stored_is_not_believed(url: str) -> None:
    first = state(0, rows=2048)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(0, first)
        checkpoints.wait()
        assert checkpoints._last is not None
        checkpoints._last._memory[1000] ^= 1
        checkpoints.save(1, near(first, 1))
        checkpoints.wait()
        assert same(checkpoints.load(), near(first, 1))
        assert same(checkpoints.load(0), first)


def test_a_run_that_saves_faster_than_it_stores_goes_without_the_step_before(url: str) -> None:
    steps = [state(0, rows=1024)]
    with AsyncCheckpointer(url) as checkpoints:
        for number in range(6):
            checkpoints.save(number, steps[-1])
            steps.append(near(steps[-1], number))
    with AsyncCheckpointer(url) as checkpoints:
        assert all(same(checkpoints.load(number), steps[number]) for number in range(6))


def test_after_a_step_that_failed_the_one_before_it_is_what_the_next_is_compared_with(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = state(0, rows=2048)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(0, first)
        checkpoints.wait()
        with monkeypatch.context() as patch:
            patch.setattr(Steps, "write", _broken)
            checkpoints.save(1, near(first, 1))
            with pytest.raises(SaveFailed):
                checkpoints.wait()
        checkpoints.save(2, near(first, 2))
        checkpoints.wait()
        assert checkpoints.progress.totals.bytes_sent < 0.12 * first["weights"].nbytes
        assert same(checkpoints.load(), near(first, 2))


def test_a_step_is_stored_beside_the_training(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    beside: list[bool] = []
    finish = Writer.finish

    def noting(self: Writer) -> None:
        beside.append(self._wishes.beside)
        finish(self)

    monkeypatch.setattr(Writer, "finish", noting)
    with AsyncCheckpointer(url) as checkpoints:
        checkpoints.save(1, state(1))
    assert True in beside
