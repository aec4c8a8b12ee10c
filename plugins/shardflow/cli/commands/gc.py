"""`shardflow gc`: free what no stored file needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.care import state_of, store_argument
from shardflow.cli.display import following
from shardflow.cli.run import Run, json_option, quiet_option, store_options
from shardflow.cli.units import count, moment, read_time, size

if TYPE_CHECKING:
    from shardflow.store.care.gc import Amount, GcReport


@click.command("gc", short_help="Free what no stored file needs.")
@store_argument
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be done.")
@click.option("--grace", type=read_time, metavar="TIME", help="In place of the store's own grace period, such as 24h.")
@json_option
@quiet_option
@store_options
@click.pass_obj
def command(run: Run, url: str | None, dry_run: bool, grace: float | None) -> None:
    """Free the space of what was removed or replaced, in the store at URL (by default that of SHARDFLOW_STORE).

    Works in two steps, so that it never takes anything from a writer at work: the first run sets packs aside that no
    file needs; a run after the grace period deletes them, if they are still unused. Run it daily or weekly, at any
    time. A shorter --grace is safe only while nothing writes to the store.

    \b
    Examples:
      shardflow gc shardflow://s3/bucket/models --dry-run
      shardflow gc /data/models
    """
    from shardflow.store.care.gc import collect
    from shardflow.store.care.progress import CareProgress

    store = run.whole_store(url)
    run.resumable()
    progress = CareProgress()
    with following(lambda: state_of(progress), hidden=run.quiet):
        report = collect(store, dry_run=dry_run, grace=grace, progress=progress)
    run.give({"url": str(store.url), **report.as_dict(), "seconds": run.seconds}, _report(report))


def _report(report: GcReport) -> Iterator[str]:
    yield f"{_amount(report.total)}: {_amount(report.live)} in use by {count(report.manifests, 'file')}"
    would = "would be " if report.dry_run else ""
    if report.deleted.packs:
        yield f"  {_amount(report.deleted)} {would}deleted"
    if report.set_aside.packs:
        yield f"  {_amount(report.set_aside)} {would}set aside, to be deleted after the grace period"
    if report.waiting.packs:
        yield f"  {_amount(report.waiting)} set aside before, still within the grace period"
    if report.fresh.packs:
        yield f"  {_amount(report.fresh)} unused but too new to judge"
    if report.kept_changed.packs:
        yield f"  {_amount(report.kept_changed)} kept: written again since they were set aside"
    if report.hints_removed or report.leftovers_removed:
        stale, left = count(report.hints_removed, "stale hint"), count(report.leftovers_removed, "leftover object")
        yield f"  {stale} and {left} {would}removed"
    yield from (f"  note: {note}" for note in report.notes)
    if report.next_at is not None:
        yield f"  run it again after {moment(report.next_at)} to free more"


def _amount(amount: Amount) -> str:
    return f"{count(amount.packs, 'pack')} ({size(amount.bytes)})"
