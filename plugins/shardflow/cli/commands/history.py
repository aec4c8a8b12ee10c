"""`shardflow history`: what was done to a model, by whom, and what was refused."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.run import Run, as_json, json_lines_option, show
from shardflow.cli.text import columns
from shardflow.cli.units import moment

if TYPE_CHECKING:
    from shardflow.registry.audit import Entry


@click.command("history", short_help="Show what was done to a model, by whom, and what was refused.")
@click.argument("model", metavar="MODEL[/VERSION]")
@json_lines_option
@click.pass_obj
def command(run: Run, model: str) -> None:
    """Show the history of a registered model, or of one version of it, oldest first.

    Refused attempts are part of it. A name that ends with (?) is what a client said; the others were checked by the
    server. With --json each line is one row of the trail, as docs/registry.md has it.

    \b
    Examples:
      shardflow history llama
      shardflow history llama/3 --json | jq -r .actor
    """
    from shardflow.cli.registry import client
    from shardflow.registry.asking import trail_of

    name, version = named(model)
    with client() as mlflow:
        rows = list(trail_of(mlflow, name, version))
    if run.json:
        for row in rows:
            print(as_json(row.as_dict()))
    elif rows:
        show(_table(rows))
    else:
        show([f"nothing is known of {model}"])


def named(text: str) -> tuple[str, int | None]:
    """The model, and the number of the version if one is named."""
    name, slash, number = text.removeprefix("models:/").rpartition("/")
    return (name, int(number)) if slash and number.isdecimal() else (text.removeprefix("models:/"), None)


def _table(rows: Iterable[Entry]) -> Iterator[str]:
    told = [("when", "who", "version", "what", "outcome", "")]
    for row in rows:
        who = row.actor if row.verified else f"{row.actor} (?)"
        version = f"{row.model}/{row.version}" if row.version is not None else row.model
        told.append((moment(row.at / 1000), who, version, what(row), row.outcome, because(row)))
    yield from columns(told, "<<<<<<")


def what(row: Entry) -> str:
    """The act in a few words, such as `move staging -> production`."""
    if row.before and row.after:
        return f"{row.action} {row.before} -> {row.after}"
    return f"{row.action} {row.after or row.before or ''}".rstrip()


def because(row: Entry) -> str:
    """Why: as whoever asked said it, or as the registry answered."""
    evidence = row.as_dict()["evidence"] or {}
    return str(evidence.get("answer") or row.reason or "")
