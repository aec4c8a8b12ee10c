"""The progress bar of long work: on stderr, with rate and time left; nothing where stderr is not a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import TYPE_CHECKING, Literal

from shardflow.cli import units
from shardflow.cli.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from shardflow.transport import Meter

_CLEAR_LINE = "\r\x1b[2K"
LOOK_EVERY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class State:
    """How far some work is; `total` is 0 while nobody knows."""

    doing: str
    done: int
    total: int = 0
    note: str = ""
    unit: Literal["bytes", "objects"] = "bytes"


@contextmanager
def following(look: Callable[[], State], *, hidden: bool = False) -> Iterator[Callable[[str], None]]:
    """Show a bar that follows `look` while the block runs; gives a way to print lines meanwhile."""
    if hidden or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _print
        return
    stop, bar = Event(), _bar()
    with bar:
        follower = Thread(target=_follow, args=(bar, look, stop), name="shardflow-bar", daemon=True)
        follower.start()
        try:
            yield _print_above
        finally:
            stop.set()
            follower.join()


def _print(line: str) -> None:
    print(printable(line), flush=True)


def _print_above(line: str) -> None:
    # The bar stands in the line that stdout would go on in; it is drawn again below.
    print(_CLEAR_LINE, end="", file=sys.stderr, flush=True)
    _print(line)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
    )


def _follow(bar: Progress, look: Callable[[], State], stop: Event) -> None:
    from shardflow.transport import Meter

    meter, doing, ending = Meter(), "", False
    task = bar.add_task("", amount="", speed="", note="")
    while not ending:
        ending = stop.wait(LOOK_EVERY_SECONDS)
        state = look()
        if state.doing != doing:
            # Another phase counts anew, and at another rate.
            meter, doing = Meter(), state.doing
        meter.update(state.done)
        bar.update(
            task,
            description=state.doing,
            total=state.total or None,
            completed=state.done,
            amount=_amount(state),
            speed=_speed(meter, state),
            note=state.note,
            refresh=True,
        )


def _amount(state: State) -> str:
    shown = units.size if state.unit == "bytes" else "{:,}".format
    if not state.total:
        return shown(state.done)
    return f"{shown(state.done)} of {shown(state.total)} {units.share(state.done, state.total)}"


def _speed(meter: Meter, state: State) -> str:
    left = meter.eta(state.total) if state.total else None
    speed = units.rate(meter.rate) if state.unit == "bytes" else f"{meter.rate:,.0f}/s"
    return f"{speed}, {units.duration(left) if left >= 60 else f'{left:.0f} s'} left" if left else speed
