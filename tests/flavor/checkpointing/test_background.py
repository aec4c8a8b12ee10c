from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flavor.checkpointing.samples import Gate, near, same, state
from shardflow.flavor.checkpointing import AsyncCheckpointer, Retention, checkpointer
from shardflow.flavor.checkpointing.errors import (
    Closed,
    SaveFailed,
)
from shardflow.flavor.checkpointing.steps import Steps
from shardflow.store.store import Store
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
        with pytest.raises(SaveFailed, match=r"step 2 was not saved: .*no space left.*; free some space and save"):
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


@pytest.mark.parametrize("wait", [False, True])
@pytest.mark.parametrize("buffers", [1, 2])
def test_whoever_saves_or_waits_while_another_closes_is_told_so(buffers: int, wait: bool, url: str, gate: Gate) -> None:
    checkpoints = AsyncCheckpointer(url, buffers=buffers)
    for step in range(buffers):
        checkpoints.save(step, state(step))
    assert gate.reached.wait(60)
    told: list[BaseException | None] = []
    saving = [_in_thread(told, checkpoints.save, step, state(step)) for step in (8, 9)]
    waiting = _in_thread([], checkpoints.wait) if wait else _in_thread(told, checkpoints.wait)
    time.sleep(0.2)
    closing = _in_thread([], partial(checkpoints.close, wait=wait))
    while not checkpoints._closed:
        pass
    gate.opened.set()
    for thread in (closing, waiting, *saving):
        thread.join(60)
        assert not thread.is_alive()
    assert {type(error) for error in told} <= {Closed, SaveFailed}
    assert any(isinstance(error, Closed) for error in told)
    assert checkpoints.steps() == (list(range(buffers)) if wait else [])


def _in_thread(told: list[BaseException | None], work: Callable[..., None], *arguments: Any) -> threading.Thread:
    """Begin work, and note what it raises."""

    def noted() -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001  # it is looked at
            told.append(error)
        else:
            told.append(None)

    thread = threading.Thread(target=noted)
    thread.start()
    return thread


def test_a_step_that_was_given_up_before_it_began_leaves_its_buffer_to_others(
    url: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = AsyncCheckpointer(url, buffers=3)
    checkpoints.save(1, state(1))
    assert gate.reached.wait(60)
    checkpoints.save(2, state(2))
    checkpoints.save(3, state(3))
    closing = _in_thread([], partial(checkpoints.close, wait=False))
    while not checkpoints._cancel.cancelled:
        pass
    gate.opened.set()
    closing.join(60)
    assert len(checkpoints._buffers._idle) == 3


@pytest.mark.parametrize("began", [True, False])
def test_a_save_that_is_interrupted_leaves_its_buffer_to_one_step_alone(
    began: bool, url: str, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by Ctrl-C in a notebook, after which the training goes on."""
    with AsyncCheckpointer(url, buffers=3) as checkpoints:
        if not began:
            checkpoints.save(0, state(0))
            assert gate.reached.wait(60)
        submit = checkpoints._thread.submit

        def interrupted(*arguments: Any) -> None:
            submit(*arguments)
            if began:
                assert gate.reached.wait(60)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints._thread, "submit", interrupted)
            with pytest.raises(KeyboardInterrupt):
                checkpoints.save(1, state(1))
        assert len(checkpoints._buffers._idle) == 2
        gate.opened.set()
        checkpoints.save(2, state(2))
        checkpoints.wait()
        assert checkpoints.steps() == ([1, 2] if began else [0, 2])
        assert len({id(buffer) for buffer in checkpoints._buffers._idle}) == len(checkpoints._buffers._idle) == 3


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


def test_a_store_that_is_removed_beneath_a_run_is_told_and_not_written_into(tmp_path: Path) -> None:
    place = tmp_path.resolve() / "runs"
    with AsyncCheckpointer(str(place)) as checkpoints:
        checkpoints.save(1, state(1))
        checkpoints.wait()
        shutil.rmtree(place)
        checkpoints.save(2, state(2))
        with pytest.raises(SaveFailed, match=r"step 2 was not saved: the store at .*runs was removed; open another"):
            checkpoints.wait()
        assert not list(place.rglob("*.json"))
        Store.init(str(place))
        checkpoints.save(3, state(3))
        with pytest.raises(SaveFailed, match="was removed"):
            checkpoints.wait()
    with AsyncCheckpointer(str(place)) as checkpoints:
        checkpoints.save(4, state(4))
        checkpoints.wait()
        assert same(checkpoints.load(), state(4))


def test_a_store_that_is_removed_while_a_step_is_stored_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path.resolve() / "runs"
    put = checkpointer.files.put_against

    def removing(*arguments: Any, **wishes: Any) -> None:
        put(*arguments, **wishes)
        (place / "shardflow.json").unlink()

    checkpoints = AsyncCheckpointer(str(place))
    monkeypatch.setattr(checkpointer.files, "put_against", removing)
    checkpoints.save(1, state(1))
    with pytest.raises(SaveFailed, match="was removed"):
        checkpoints.close()
    assert not list(place.rglob("checkpoint.json*"))
