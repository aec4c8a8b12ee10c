"""`shardflow fsck`: prove a store whole, or say what is wrong, and mend it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.care import state_of, store_argument
from shardflow.cli.display import following
from shardflow.cli.run import Run, json_option, quiet_option, show, store_options
from shardflow.cli.units import count, duration, read_share, read_time, size

if TYPE_CHECKING:
    from shardflow.store.care.fsck import FsckReport
    from shardflow.store.care.mending import Mended
    from shardflow.store.care.problems import Problem


@click.command("fsck", short_help="Check a store, and mend it.")
@store_argument
@click.option("--read-data", is_flag=True, help="Read and verify the data too, what was verified longest ago first.")
@click.option("--sample", type=read_share, metavar="SHARE", help="Read only this share of the data, such as 5%.")
@click.option("--max-time", type=read_time, metavar="TIME", help="Stop reading data after this, such as 30m.")
@click.option("--repair", is_flag=True, help="Mend what can be mended from elsewhere in the store.")
@json_option
@quiet_option
@store_options
@click.pass_obj
def command(
    run: Run, url: str | None, read_data: bool, sample: float | None, max_time: float | None, repair: bool
) -> None:
    """Check the store at URL, by default that of SHARDFLOW_STORE. Exit code 1 if anything is wrong and not mended.

    Without options: every manifest and every pack's index is read and compared with the others. A check of the data
    that was interrupted, or ended by --max-time, goes on with what is left the next time.

    --repair moves damaged packs aside after saving what is good in them. Files that still lack something are named: put
    them again.

    \b
    Examples:
      shardflow fsck shardflow://s3/bucket/models
      shardflow fsck /data/models --read-data --max-time 30m
      shardflow fsck /data/models --read-data --repair
    """
    from shardflow.store.care.fsck import check
    from shardflow.store.care.progress import CareProgress

    if max_time is not None and not read_data and sample is None:
        raise click.UsageError("--max-time limits the reading of data, so give --read-data or --sample with it")
    store = run.whole_store(url)
    run.resumable()
    progress = CareProgress()
    # What is mended is known at the end; without mending, a problem can be told as soon as it is found.
    at_once = not run.json and not repair
    with following(lambda: state_of(progress), hidden=run.quiet) as above:
        report = check(
            store,
            read_data=read_data,
            sample=sample,
            repair=repair,
            max_seconds=max_time,
            progress=progress,
            on_problem=(lambda problem: above(str(problem))) if at_once else None,
        )
    if not run.json and not at_once:
        show(_told(problem, repaired=repair) for problem in report.problems)
    run.give({"url": str(store.url), **report.as_dict(), "seconds": run.seconds}, _report(report))
    if not report.ok:
        raise click.exceptions.Exit(1)


def _report(report: FsckReport) -> Iterator[str]:
    verdict = "sound" if report.ok else "NOT SOUND"
    checked = f"{count(report.manifests, 'file')}, {count(report.packs, 'pack')} ({size(report.pack_bytes)})"
    yield f"{verdict}: {checked} checked"
    if report.packs_read:
        left = f", {report.packs_left:,} left for the next time" if report.packs_left else ""
        read = "read and verified" if report.ok else "read"
        yield f"  {count(report.packs_read, 'pack')} ({size(report.bytes_read)}) {read}{left}"
    if report.mended:
        yield from (f"  {done}" for done in _mended(report.mended))
    if report.never_read and report.packs_read < report.packs:
        yield f"  {count(report.never_read, 'pack')} never verified by reading: use --read-data"
    if report.oldest_unverified:
        oldest = report.oldest_unverified
        what = "last verified" if oldest.ever else "never verified, written"
        yield f"  pack longest unread: {oldest.pack[:16]}, {what} {duration(oldest.seconds)} ago"
    if not report.saved:
        yield "  this store takes no writes, so the next check of data does not know what this one verified"


def _told(problem: Problem, *, repaired: bool) -> str:
    if repaired and problem.pack and not problem.mended and problem.kind in ("pack-missing", "pack-damaged"):
        return f"{problem.what}; put the files that lack chunks again"
    return str(problem)


def _mended(mended: Mended) -> Iterator[str]:
    if mended.chunks_saved:
        yield f"{count(mended.chunks_saved, 'chunk')} saved from damaged packs"
    if mended.chunks_found:
        yield f"{count(mended.chunks_found, 'lost chunk')} found in other packs"
    if mended.manifests_rewritten:
        yield f"{count(mended.manifests_rewritten, 'file')} made to read from the new places"
    if mended.packs_moved_aside:
        yield f"{count(len(mended.packs_moved_aside), 'damaged pack')} moved to care/damaged, kept there for 30 days"
