"""Sizes, times and shares as people write and read them; `--json` has the exact numbers instead."""

from __future__ import annotations

import re
import time

import click

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?B?)", re.IGNORECASE)
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|d)?", re.IGNORECASE)
_SHARE = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(%?)")
_WORTH_A_RATE = 64 << 20
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def size(count: float) -> str:
    """`1.5 MiB`: binary units, three or four digits."""
    unit = 0
    while count >= 1023.95 and unit < len(_BINARY) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.1f} {_BINARY[unit]}"


def rate(bytes_a_second: float) -> str:
    return f"{size(bytes_a_second)}/s"


def duration(seconds: float) -> str:
    """`0.42 s`, `1 min 05 s`, `2 h 10 min`: the two largest units."""
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.95 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24:02} h"


def timing(done: int, seconds: float) -> str:
    """A time, and the rate it makes: of little data, starting up is most of it, and a rate would mislead."""
    if done < _WORTH_A_RATE or seconds <= 0:
        return duration(seconds)
    return f"{duration(seconds)} ({rate(done / seconds)})"


def share(part: float, whole: float) -> str:
    """`12.3 %`; never 100 % for less than all, nor 0 % for more than nothing."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    if 0 < part < whole:
        percent = min(99.9, max(0.1, percent))
    return f"{percent:.1f} %" if percent % 1 else f"{percent:.0f} %"


def moment(unix_seconds: float) -> str:
    """Local date and time, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_seconds))


def count(number: int, one: str, many: str = "") -> str:
    """`1 file`, `12,000 files`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def read_size(text: str) -> int:
    """A size on the command line: `64MiB`, `64M` (the same), `64MB` (decimal) or a number of bytes."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise click.BadParameter(f"{text!r} is not a size, such as 64MiB")
    base = 1000 if match[2] and match[3].upper() == "B" else 1024
    return int(float(match[1]) * base ** " KMGTP".index(match[2].upper() or " "))


def read_time(text: str) -> float:
    """A time on the command line: `90s`, `30m`, `24h`, `7d`, or a number of seconds."""
    match = _TIME.fullmatch(text.strip())
    if not match:
        raise click.BadParameter(f"{text!r} is not a time, such as 30m or 24h")
    return float(match[1]) * _SECONDS[(match[2] or "s").lower()]


def read_share(text: str) -> float:
    """A part of a whole on the command line: `5%` or `0.05`."""
    match = _SHARE.fullmatch(text.strip())
    part = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < part <= 1:
        raise click.BadParameter(f"{text!r} is not a share, such as 5% or 0.05")
    return part
