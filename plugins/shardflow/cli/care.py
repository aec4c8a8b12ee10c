"""What the commands that care for a store share: how they name it, and how they show that they are at work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State
from shardflow.cli.run import STORE_VARIABLE

if TYPE_CHECKING:
    from shardflow.store.care.progress import CareProgress

store_argument = click.argument("url", required=False, envvar=STORE_VARIABLE)


def state_of(progress: CareProgress) -> State:
    """What a bar shows of such work; its phases come one after another, each with its own total."""
    return State(progress.phase, progress.done, progress.total, unit=progress.unit)
