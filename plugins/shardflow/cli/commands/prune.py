"""`shardflow prune`: remove registered versions that a retention policy does not keep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.text import columns
from shardflow.cli.units import count, moment, size
from shardflow.errors import without_passwords

if TYPE_CHECKING:
    from shardflow.registry.pruning import Plan, Removed
    from shardflow.registry.remains import Remains


@click.command("prune", short_help="Remove registered versions that nobody needs any more.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--keep-last", type=click.IntRange(0), default=10, show_default=True, help="Newest versions of each model."
)
@click.option(
    "--deployed-days", type=click.FloatRange(0), default=90.0, show_default=True, help="Keep what ran anywhere in them."
)
@click.option("--delete", is_flag=True, help="Really remove them.")
@click.option("--gc", "collect", is_flag=True, help="Then run 'shardflow gc' on their stores.")
@json_option
@quiet_option
@click.pass_obj
def command(
    run: Run, models: tuple[str, ...], keep_last: int, deployed_days: float, delete: bool, collect: bool
) -> None:
    """Show which versions of the models named (patterns such as 'llama-*' may be used) can go, and with --delete remove
    them: the version, its logged model, and the names of its files. Kept are the newest, all in testing, staging or
    production, what runs somewhere or did not long ago, and every version that one of these was made from.

    A run that fails or is stopped is finished by the next one. Bytes are freed by 'shardflow gc' as far as no other
    version needs them; --gc begins that.

    \b
    Examples:
      shardflow prune 'llama-*' --keep-last 5
      shardflow prune llama bert --delete --gc
    """
    from shardflow.cli.registry import client
    from shardflow.registry.policy.patterns import matches
    from shardflow.registry.present import Present
    from shardflow.registry.pruning import Retention, deployed, planned, remove
    from shardflow.registry.remains import noted

    if collect and not delete:
        raise click.UsageError("--gc frees what --delete removed: name both")
    retention = Retention(last=keep_last, deployed_days=deployed_days)

    def named(model: str) -> bool:
        return any(matches(model, each) for each in models)

    with client() as mlflow:
        begun = [each for each in noted(mlflow) if named(each.model)]
        history, present = deployed(mlflow), Present(mlflow)
        there = {each.name for each in present.versions.values()}
        plan = planned(present.versions.values(), retention, time.time(), named, history)
        removed = remove(plan, present, begun=begun) if delete else None
    unfinished = [each for each in begun if each.name not in there]
    run.give(_document(plan, removed, unfinished), _lines(plan, removed, unfinished))
    for url in sorted(removed.stores) if removed and collect else ():
        _collect(run, url)
    if removed and (removed.refused or removed.left):
        raise click.exceptions.Exit(1)


def _document(plan: Plan, removed: Removed | None, unfinished: list[Remains]) -> dict[str, object]:
    kept = [{"version": each.version.name, "reason": each.reason} for each in plan.kept]
    going = [each.name for each in plan.going]
    left = [{"version": each.name, "location": without_passwords(each.location)} for each in unfinished]
    document = {"dry_run": removed is None, "going": going, "kept": kept, "unfinished": left}
    return {**document, **(removed.as_dict() if removed else {})}


def _lines(plan: Plan, removed: Removed | None, unfinished: list[Remains]) -> Iterator[str]:
    if removed is None:
        yield f"{count(len(plan.going), 'version')} can go, {len(plan.kept):,} stay"
        yield from columns([(f"  {each.title}", str(each.status), moment(each.created)) for each in plan.going], "<<<")
        yield from (f"  {each.version.title} stays: {each.reason}" for each in plan.kept)
        for each in unfinished:
            yield f"  {each.name} was removed, its files in {without_passwords(each.location)} not yet"
        if plan.going or unfinished:
            yield "nothing was removed: add --delete for that"
        return
    yield f"removed {count(len(removed.versions), 'version')} with {size(removed.size)} of files"
    yield from (f"  finished {name}, which an earlier run had removed" for name in removed.finished)
    yield from (f"  {name} stays: {reason}" for name, reason in removed.refused)
    yield from (f"  files of {each.version} left at {each.location}: {each.reason}" for each in removed.left)
    yield from (f"  shardflow gc {url} frees what nothing else needs" for url in sorted(removed.stores))


def _collect(run: Run, url: str) -> None:
    from shardflow.cli.commands.gc import command as gc

    with gc.make_context("gc", [url, *(["-q"] if run.quiet or run.json else [])], obj=run) as ctx:
        gc.invoke(ctx)
