"""`shardflow repack`: gather what is still needed of packs that are mostly unneeded or small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.care import state_of, store_argument
from shardflow.cli.display import following
from shardflow.cli.run import Run, json_option, quiet_option, store_options
from shardflow.cli.units import count, read_share, size

if TYPE_CHECKING:
    from shardflow.store.care.repack import RepackReport


@click.command("repack", short_help="Gather what is scattered in mostly unneeded packs.")
@store_argument
@click.option(
    "--threshold",
    type=read_share,
    metavar="SHARE",
    default="0.5",
    show_default=True,
    help="Rewrite packs of which less than this is needed.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would be done.")
@json_option
@quiet_option
@store_options
@click.pass_obj
def command(run: Run, url: str | None, threshold: float, dry_run: bool) -> None:
    """Rewrite packs of which little is needed, and small ones.

    URL is that of the store, by default SHARDFLOW_STORE. What could be freed is shown as slack by 'shardflow stats'.
    Afterwards 'shardflow gc' frees the old packs, in its two steps.

    \b
    Examples:
      shardflow repack shardflow://s3/bucket/models --dry-run
      shardflow repack /data/models --threshold 0.8
    """
    from shardflow.store.care.progress import CareProgress
    from shardflow.store.care.repack import repack

    store = run.whole_store(url)
    run.resumable()
    progress = CareProgress()
    with following(lambda: state_of(progress), hidden=run.quiet):
        report = repack(store, threshold=threshold, dry_run=dry_run, progress=progress)
    run.give({"url": str(store.url), **report.as_dict(), "seconds": run.seconds}, _report(report))


def _report(report: RepackReport) -> Iterator[str]:
    chosen = report.sparse_packs + report.small_packs
    if not chosen:
        yield f"nothing to do: none of {count(report.packs, 'pack')} is mostly unneeded, or small"
        return
    would = "would be " if report.dry_run else ""
    why = f"{report.sparse_packs:,} mostly unneeded, {report.small_packs:,} small"
    yield f"{chosen:,} of {count(report.packs, 'pack')} {would}rewritten ({why})"
    yield f"  {size(report.bytes_copied)} of {size(report.bytes_before)} are still needed"
    if not report.dry_run:
        packs, files = count(report.packs_written, "new pack"), count(report.manifests_rewritten, "file")
        yield f"  {packs} written, and {files} made to read from them"
        yield f"  {size(max(0, report.bytes_freed))} can be freed by 'shardflow gc', run twice"
    if report.manifests_skipped:
        yield f"  {count(report.manifests_skipped, 'file')} skipped: they were being changed"
    if report.chunks_damaged:
        yield f"  {count(report.chunks_damaged, 'damaged chunk')} left in place: run 'shardflow fsck --read-data'"
