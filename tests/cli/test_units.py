from __future__ import annotations

from collections.abc import Callable

import click
import pytest

from shardflow.cli import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1048575, "1.0 MiB"),
        (140 << 30, "140.0 GiB"),
        (3 << 60, "3072.0 PiB"),
    ],
)
def test_sizes_are_told_in_binary_units(count: int, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12 s"), (12.34, "12.3 s"), (65, "1 min 05 s"), (7800, "2 h 10 min"), (200000, "2 d 07 h")],
)
def test_times_are_told_in_their_two_largest_units(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0 %"), (0, 5, "0 %"), (5, 5, "100 %"), (1, 3, "33.3 %"), (99999, 100000, "99.9 %"), (1, 10**6, "0.1 %")],
)
def test_a_share_is_all_or_nothing_only_when_it_is(part: int, whole: int, text: str) -> None:
    assert units.share(part, whole) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [("512", 512), ("64MiB", 64 << 20), ("64M", 64 << 20), ("64 mib", 64 << 20), ("1MB", 10**6), ("1.5k", 1536)],
)
def test_sizes_are_read_as_people_write_them(text: str, count: int) -> None:
    assert units.read_size(text) == count


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800)])
def test_times_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert units.read_time(text) == seconds


@pytest.mark.parametrize(("text", "part"), [("5%", 0.05), ("0.05", 0.05), ("100%", 1), ("1", 1)])
def test_shares_are_read_as_people_write_them(text: str, part: float) -> None:
    assert units.read_share(text) == pytest.approx(part)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (units.read_size, "big"),
        (units.read_size, "-1"),
        (units.read_size, "5X"),
        (units.read_time, "soon"),
        (units.read_time, "-3h"),
        (units.read_share, "0"),
        (units.read_share, "101%"),
        (units.read_share, "nan"),
        (units.read_share, "half"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(read: Callable[[str], float], text: str) -> None:
    with pytest.raises(click.BadParameter, match=text):
        read(text)
