"""`shardflow deploy`: keep a record of what runs where, and look it up for any moment."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from shardflow.cli.commands.history import named
from shardflow.cli.run import Run, as_json, json_lines_option, json_option, quiet_option, show
from shardflow.cli.text import columns
from shardflow.cli.units import moment

if TYPE_CHECKING:
    from shardflow.registry.deployments import Deployment

OUTCOMES = ("succeeded", "failed", "removed")


def _moment(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time such as 2026-08-01T12:00 or 2026-08-01T12:00+02:00") from None


@click.group("deploy", short_help="Record what runs where, and look it up.")
def command() -> None:
    """Keep a record of deployments in the registry. Deploying itself is the work of other tools, which call this.

    \b
    Examples:
      shardflow deploy record llama/3 eu-west --note "canary"
      shardflow deploy list --at 2026-08-01T12:00
      shardflow deploy rollback llama eu-west
    """


@command.command("record", short_help="Note that a version was deployed.")
@click.argument("version", metavar="MODEL/VERSION")
@click.argument("target")
@click.option("--outcome", type=click.Choice(OUTCOMES), default="succeeded", show_default=True, help="How it ended.")
@click.option("--at", callback=_moment, metavar="TIME", help="When, in ISO 8601; now by default.")
@click.option("--note", metavar="TEXT", help="Anything worth knowing.")
@json_option
@quiet_option
@click.pass_obj
def record(run: Run, version: str, target: str, outcome: str, at: float | None, note: str | None) -> None:
    """Note that MODEL/VERSION was deployed to TARGET, or that it was tried and failed, or that it runs no more."""
    from shardflow.cli.registry import client
    from shardflow.registry.references import find

    with client() as mlflow:
        found = find(version, mlflow)
        document = _recorded(mlflow, found.model, found.version, target, outcome, at, note)
    run.give(document, [f"{found.name} at {target}: {outcome}"])


@command.command("list", short_help="List deployments, or what ran where at some time.")
@click.argument("model", metavar="[MODEL[/VERSION]]", required=False)
@click.option("--target", help="Only those to this target.")
@click.option("--at", callback=_moment, metavar="TIME", help="Only what ran at this time, in ISO 8601.")
@click.option("--running", is_flag=True, help="Only what runs now.")
@json_lines_option
@click.pass_obj
def listed(run: Run, model: str | None, target: str | None, at: float | None, running: bool) -> None:
    """List deployments, oldest first: all, or those of a model or a version. With --json one object a line."""
    from shardflow.cli.registry import client
    from shardflow.registry.asking import deployments_of
    from shardflow.registry.deployments import running as running_at

    name, version = named(model) if model else (None, None)
    with client() as mlflow:
        found = deployments_of(mlflow, name, version if at is None and not running else None)
    found = [one for one in found if target in (None, one.target)]
    if at is not None or running:
        found = running_at(found, float("inf") if at is None else at)
        found = [one for one in found if version in (None, one.version)]
    if run.json:
        for one in found:
            print(as_json(one.as_dict()))
    else:
        show(_table(found) if found else ["no deployments"])


@command.command("rollback", short_help="Go back to what ran before.")
@click.argument("model")
@click.argument("target")
@click.option("--note", metavar="TEXT", help="Why.")
@json_option
@quiet_option
@click.pass_obj
def rollback(run: Run, model: str, target: str, note: str | None) -> None:
    """Note that TARGET goes back to the version of MODEL that ran there before, and say which one that is."""
    from shardflow.cli.registry import client
    from shardflow.errors import ShardflowError
    from shardflow.registry.asking import deployments_of
    from shardflow.registry.deployments import before_the_last

    with client() as mlflow:
        history = [one for one in deployments_of(mlflow, model) if one.target == target]
        back = before_the_last(history)
        if back is None:
            raise ShardflowError(
                f"no other version of {model} ran at {target} before", remedy=f"see 'shardflow deploy list {model}'"
            )
        document = _recorded(mlflow, model, back.version, target, "succeeded", None, note or "rollback")
    run.give(document, [f"{model}/{back.version} at {target}: rolled back"])


def _recorded(
    mlflow: Any, model: str, version: int, target: str, outcome: str, at: float | None, note: str | None
) -> dict[str, Any]:
    from shardflow.registry.asking import head_told
    from shardflow.registry.deployments import DEPLOYMENT_TAG, read_report

    head_told(mlflow)  # a registry of MLflow's own would keep the tag, and remember nothing
    given = {"target": target, "outcome": outcome, "at": at, "note": note}
    text = json.dumps({key: value for key, value in given.items() if value is not None})
    read_report(text)
    mlflow.set_model_version_tag(model, str(version), DEPLOYMENT_TAG, text)
    return {"model": model, "version": version, **given}


def _table(found: Iterable[Deployment]) -> Iterator[str]:
    rows = [("when", "target", "version", "outcome", "by", "")]
    for one in found:
        by = one.actor if one.verified else f"{one.actor} (?)"
        rows.append((moment(one.at), one.target, f"{one.model}/{one.version}", one.outcome, by, one.note or ""))
    yield from columns(rows, "<<<<<<")
