"""`shardflow audit`: prove that the history of a registry is what was written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.units import count

if TYPE_CHECKING:
    from shardflow.registry.trail import Standings, Verified


@click.group("audit", short_help="Check the history of a registry.")
def command() -> None:
    """Check the history of a registry: that no row of it was edited, removed, put in or moved.

    \b
    Examples:
      shardflow audit verify
      shardflow audit verify --since 812:6f0c4a5be7d1c0a3b2f49d6a8e75c1b04d2f3a6978b1c5e0d4f7a9382b6c1e5d
    """


@command.command("verify", short_help="Find every row that was tampered with.")
@click.option("--since", metavar="ROW", help="Also prove that this row, printed by an earlier check, is still there.")
@json_option
@quiet_option
@click.pass_obj
def verify(run: Run, since: str | None) -> None:
    """Check every row of the history against the one before it. Exit code 1 if anything is wrong.

    Each row carries the hash of the one before, so nothing in the middle can be changed unseen. Whoever owns the
    database can write the whole of it anew: keep the last row that this prints somewhere else, and give it with --since
    the next time. Versions that stand in another stage than the history says are reported too.
    """
    from shardflow.cli.registry import client
    from shardflow.registry.asking import follow_trail
    from shardflow.registry.trail import Chain, Standings, read_head

    chain, standings = Chain(read_head(since) if since else None), Standings()
    with client() as mlflow:
        found = chain.ended(follow_trail(mlflow, chain.take, standings.take))
        moved = _moved_around(mlflow, standings, found.head.seq)
    document = {
        "ok": not found.flaws and not moved,
        "rows": found.rows,
        "last": str(found.head),
        "flaws": [{"row": flaw.seq, "what": flaw.what} for flaw in found.flaws],
        "astray": moved,
    }
    run.give(document, _report(found, moved))
    if not document["ok"]:
        raise click.exceptions.Exit(1)


def _moved_around(mlflow: Any, told: Standings, last: int) -> list[str]:
    """Versions that stand elsewhere than the trail says, of which row `last` was the last."""
    from shardflow.registry.asking import stages_now, trail_of
    from shardflow.registry.trail import astray

    found = astray(told.all(), stages_now(mlflow))
    if found:  # or they have moved since the trail was read: look once more
        for row in trail_of(mlflow, after=last):
            told.take(row)
        again = astray(told.all(), stages_now(mlflow))
        found = [one for one in found if one in again]
    return found


def _report(found: Verified, moved: list[str]) -> Iterator[str]:
    yield from map(str, found.flaws)
    yield from moved
    sound = "sound" if not found.flaws and not moved else "NOT SOUND"
    yield f"{sound}: {count(found.rows, 'row')}, the last of them {found.head}"
