"""Figures: repeated measurements as one, goals they are held against, and the table and JSON they are shown in.

A goal is met or missed, and both are printed. Neither is a failure of the program: only a wrong result is.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from harness import machine

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PAGE_WIDTH = 150  # of tables that go to a file


@dataclass(frozen=True, slots=True)
class Spread:
    """Several measurements of one thing."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def seconds(self) -> str:
        """Such as `1.24 s (1.20 to 1.31)`."""
        around = f" ({self.low:.2f} to {self.high:.2f})" if len(self.values) > 1 else ""
        return f"{self.median:.2f} s{around}"

    def as_dict(self) -> dict[str, Any]:
        return {"median": self.median, "min": self.low, "max": self.high, "values": list(self.values)}


def ratios(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Of each pair by itself: what disturbs the machine for a while disturbs both halves of a pair."""
    return Spread(tuple(above / below for above, below in zip(over, under, strict=True)))


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure was to reach, and whether it did."""

    text: str
    met: bool


def at_most(value: float, limit: float, text: str) -> Goal:
    return Goal(f"at most {text}", value <= limit)


def at_least(value: float, limit: float, text: str) -> Goal:
    return Goal(f"at least {text}", value >= limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a report."""

    what: str
    ours: str
    peer: str = ""  # what stands beside it, measured in the same run
    goal: Goal | None = None
    raw: dict[str, Any] = field(default_factory=dict)  # the numbers behind the words, for the JSON


@dataclass(frozen=True, slots=True)
class Report:
    """All figures of one benchmark."""

    name: str
    title: str
    settings: dict[str, Any]
    judged: bool = True  # tiny runs are not held against goals
    figures: list[Figure] = field(default_factory=list)
    about: dict[str, str | int | float] = field(default_factory=machine.described)

    def add(self, figure: Figure) -> None:
        """Take a figure in, and show it at once: the rest may take long."""
        self.figures.append(figure if self.judged else replace(figure, goal=None))
        print(f"  {figure.what}: {figure.ours}", flush=True)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), indent=2) + "\n")

    def show(self) -> None:
        """The table, for people."""
        table = Table(title=self.title, title_justify="left", caption=machine.line(self.about), caption_justify="left")
        for heading in ("figure", "Shardflow", "beside it", "goal", ""):
            table.add_column(heading, overflow="fold")
        for figure in self.figures:
            goal = figure.goal
            verdict = "" if goal is None else ("met" if goal.met else "missed")
            table.add_row(figure.what, figure.ours, figure.peer, goal.text if goal else "", verdict)
        terminal = Console().is_terminal
        Console(highlight=False, markup=False, width=None if terminal else PAGE_WIDTH).print(table)


def size(count: float) -> str:
    """Bytes for people: `1.5 GiB`, `64 KiB`, `12 bytes`."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(count) >= unit:
            return f"{count / unit:.3g} {name}" if count < 1000 * unit else f"{count / unit:.0f} {name}"
    return f"{count:.0f} bytes"


def rate(count: float, seconds: float) -> str:
    return f"{size(count / seconds)}/s"
