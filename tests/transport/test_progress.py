"""Counters and the meter behind progress bars."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from shardflow.transport import Meter, Totals


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_counts_from_many_threads_are_all_kept() -> None:
    totals = Totals()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: totals.add(bytes_sent=3, reads=1), range(2000)))
    assert (totals.bytes_sent, totals.reads) == (6000, 2000)


def test_counters_are_told_by_name() -> None:
    totals = Totals()
    totals.add(bytes_received=5, retries=2, objects_written=1, objects_deleted=3)
    assert totals.as_dict() == {
        "bytes_sent": 0,
        "bytes_received": 5,
        "objects_written": 1,
        "objects_deleted": 3,
        "reads": 0,
        "retries": 2,
    }


def test_a_meter_tells_rate_and_time_left() -> None:
    clock = Clock()
    meter = Meter(10, clock)
    assert meter.rate == 0
    assert meter.eta(1000) is None
    clock.now += 2
    meter.update(200)
    assert meter.rate == 100
    assert meter.eta(1000) == 8
    assert meter.eta(100) == 0


def test_a_meter_forgets_what_is_older_than_its_window() -> None:
    clock = Clock()
    meter = Meter(10, clock)
    for second in range(1, 31):
        clock.now += 1
        meter.update(second * (1000 if second <= 20 else 0) + (20_000 + 10 * (second - 20) if second > 20 else 0))
    assert meter.rate == 10
    assert meter.done == 20_100


def test_a_stalled_link_shows() -> None:
    clock = Clock()
    meter = Meter(10, clock)
    clock.now += 1
    meter.update(1000)
    clock.now += 99
    assert meter.rate == 10
    meter.update(1000)
    clock.now += 20
    meter.update(1000)
    assert meter.rate == 0
    assert meter.eta(2000) is None
