"""What an examination says of one thing, and how it goes on when looking at the thing fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from shardflow.errors import ShardflowError


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of an examination. `ok` is None where there is nothing to judge, only something to know."""

    name: str
    ok: bool | None
    what: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def looked_at(name: str, look: Callable[[], Finding]) -> Finding:
    """What `look` finds; whatever it fails with is a finding too."""
    try:
        return look()
    except ShardflowError as error:
        return Finding(name, False, error.message, error.remedy)
    except Exception as error:  # noqa: BLE001  # the point of an examination is to come back with the fault
        return Finding(name, False, f"{type(error).__name__}: {error}", "report this with the output of the command")


def size_text(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def time_text(seconds: float) -> str:
    """A span of time for people."""
    for limit, length, unit in ((120, 1, "seconds"), (7200, 60, "minutes"), (172_800, 3600, "hours")):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"
