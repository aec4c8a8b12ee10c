"""`shardflow stat`: what is known of one file or directory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.run import Run, json_option, store_options, verbose_option
from shardflow.cli.text import facts
from shardflow.cli.units import count, moment, size

if TYPE_CHECKING:
    from shardflow.store.entries import Stat


@click.command("stat", short_help="Show size, digest and storage of a file or directory.")
@click.argument("url")
@json_option
@verbose_option
@store_options
@click.pass_obj
def command(run: Run, url: str) -> None:
    """Show what is known of the file or directory at URL.

    For a directory the figures are sums over the files below it; what files share is counted with each of them
    ('shardflow stats' counts it once).

    \b
    Example:
      shardflow stat shardflow://s3/bucket/models/llama/v1/model.safetensors
    """
    store, path = run.find(url)
    stat = store.stat(path)
    where = str(store.url.joined(path))
    run.give({**stat.as_dict(), "url": where}, facts(_facts(stat, where)))
    run.tell_traffic(store.transport.totals)


def _facts(stat: Stat, where: str) -> Iterator[tuple[str, str]]:
    yield "url", where
    yield "kind", stat.kind if stat.kind == "file" else f"directory, {count(stat.files, 'file')} below it"
    yield "size", f"{size(stat.size)} ({stat.size:,} bytes)"
    yield "stored", f"{size(stat.stored)} ({stat.stored:,} bytes)"
    yield "chunks", _chunks(stat)
    if stat.layout:
        yield "layout", stat.layout
    if stat.digest:
        yield "digest", f"blake3 {stat.digest}"
    if stat.created:
        yield "stored on", moment(stat.created)


def _chunks(stat: Stat) -> str:
    if not stat.chunks:
        return "none: the content is in the manifest" if stat.kind == "file" else "none"
    codecs = ", ".join(f"{number:,} {name}" for name, number in sorted(stat.codecs.items()))
    return f"{stat.chunks:,} in {count(stat.packs, 'pack')} ({codecs})"
