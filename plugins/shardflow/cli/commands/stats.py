"""`shardflow stats`: what a store holds, what that takes, and what was saved by which means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.care import state_of, store_argument
from shardflow.cli.display import following
from shardflow.cli.run import Run, json_option, store_options, url_or_default
from shardflow.cli.text import columns
from shardflow.cli.units import count, share, size
from shardflow.errors import ShardflowError

if TYPE_CHECKING:
    from shardflow.store.care.stats import StoreStats, WholeStore


@click.command("stats", short_help="Show what is stored and what was saved.")
@store_argument
@json_option
@store_options
@click.pass_obj
def command(run: Run, url: str | None) -> None:
    """Show what the store or the path at URL (by default the store of SHARDFLOW_STORE) holds, and what that takes.

    What files share is counted once. The space that nothing needs any more is shown for whole stores only;
    'shardflow gc' and 'shardflow repack' make it free.

    \b
    Examples:
      shardflow stats shardflow://s3/bucket/models
      shardflow stats /data/models/llama --json
    """
    from shardflow.store.care.progress import CareProgress
    from shardflow.store.care.stats import measure

    store, path = run.find(url_or_default(url))
    progress = CareProgress()
    with following(lambda: state_of(progress)):
        stats = measure(store, path, progress=progress)
    where = str(store.url.joined(path))
    run.give({"url": where, **stats.as_dict()}, _report(stats, where))
    if stats.unreadable:
        raise ShardflowError(
            f"{count(stats.unreadable, 'manifest')} could not be read, and {'is' if stats.unreadable == 1 else 'are'} "
            "in none of these figures",
            remedy="run 'shardflow fsck' to see which",
        )


def _report(stats: StoreStats, where: str) -> Iterator[str]:
    yield where
    yield from (f"  {line}" for line in columns(_figures(stats), "<><"))
    if stats.codecs:
        yield "by encoding"
        yield from (f"  {line}" for line in columns(_encodings(stats), "<>>>>"))


def _figures(stats: StoreStats) -> Iterator[tuple[str, str, str]]:
    taken = stats.chunks_stored + stats.inline
    empty = f"and {count(stats.directories, 'empty directory', 'empty directories')}" if stats.directories else ""
    yield "files", f"{stats.files:,}", empty
    yield "they hold", size(stats.logical), ""
    yield "they take", size(taken), f"{share(stats.logical - taken, stats.logical)} saved"
    for name, saved in _savings(stats):
        yield f"  saved by {name}", size(saved), share(saved, stats.logical)
    if stats.whole:
        yield from _whole(stats.whole)


def _savings(stats: StoreStats) -> Iterator[tuple[str, int]]:
    yield "storing what is equal once", stats.saved_by_dedup
    yield "encoding", stats.saved_by_encoding
    if stats.saved_by_delta:
        yield "storing differences", stats.saved_by_delta


def _whole(whole: WholeStore) -> Iterator[tuple[str, str, str]]:
    yield "packs", size(whole.pack_bytes), f"in {whole.packs:,}"
    yield "  slack in them", size(whole.slack), "what no file needs, and the packs' own indexes"
    unused = f"in {whole.unreferenced_packs:,}; 'shardflow gc' frees them" if whole.unreferenced_packs else ""
    yield "  unused ones", size(whole.unreferenced), unused
    yield "manifests", size(whole.manifest_bytes), ""
    yield "hints", size(whole.hint_bytes), f"in {whole.hints:,}"


def _encodings(stats: StoreStats) -> Iterator[tuple[str, ...]]:
    yield "encoding", "chunks", "size", "stored", "ratio"
    for codec in stats.codecs:
        ratio = f"{codec.stored / codec.size:.3f}" if codec.size else ""
        yield codec.codec, f"{codec.chunks:,}", size(codec.size), size(codec.stored), ratio
