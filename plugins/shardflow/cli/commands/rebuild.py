"""`shardflow rebuild`: make anew what a store can lose without losing content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.care import state_of, store_argument
from shardflow.cli.display import following
from shardflow.cli.run import Run, json_option, quiet_option, store_options
from shardflow.cli.units import count, size

if TYPE_CHECKING:
    from shardflow.store.care.rebuild import HintsReport, RepointReport


@click.command("rebuild", short_help="Make anew what can be lost without losing content.")
@store_argument
@json_option
@quiet_option
@store_options
@click.pass_obj
def command(run: Run, url: str | None) -> None:
    """Make anew, in the store at URL (by default that of SHARDFLOW_STORE), what follows from the rest of it.

    Files whose packs are missing are made to read from other packs that hold the same chunks, found by the packs' own
    indexes. Then the hints are written by which later puts find what they can share. Exit code 1 if files still lack
    something.

    \b
    Example:
      shardflow rebuild /data/models
    """
    from shardflow.store.care.progress import CareProgress
    from shardflow.store.care.rebuild import rebuild_hints, repoint

    store = run.whole_store(url)
    run.resumable()
    progress = CareProgress()
    with following(lambda: state_of(progress), hidden=run.quiet):
        pointed = repoint(store, progress=progress)
        hints = rebuild_hints(store, progress=progress)
    document = {"url": str(store.url), "packs": pointed.as_dict(), "hints": hints.as_dict(), "seconds": run.seconds}
    run.give(document, _report(pointed, hints))
    if not pointed.ok:
        raise click.exceptions.Exit(1)


def _report(pointed: RepointReport, hints: HintsReport) -> Iterator[str]:
    if pointed.packs_missing:
        yield f"{count(pointed.packs_missing, 'pack')} missing: {count(pointed.chunks_found, 'chunk')} found in others"
        yield f"{count(pointed.manifests_rewritten, 'file')} made to read from there"
    for file in pointed.affected:
        yield f"{file.path} lacks {count(len(file.chunks), 'chunk')} ({size(file.bytes)}); put the file again"
    yield from pointed.notes
    yield f"{count(hints.hints, 'hint')} written for {count(hints.manifests, 'file')}"
