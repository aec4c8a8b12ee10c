"""`shardflow put`: store a file, a directory or a stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State, following
from shardflow.cli.named import NamedPath
from shardflow.cli.run import Run, json_option, quiet_option, store_options, verbose_option
from shardflow.cli.units import count, share, size, timing

if TYPE_CHECKING:
    from shardflow.store.progress import Progress


@click.command("put", short_help="Store a file, a directory or a stream.")
@click.argument("path", type=NamedPath())
@click.argument("url")
@click.option("--no-replace", is_flag=True, help="Refuse where another content is stored under the same name.")
@click.option("--no-delta", is_flag=True, help="Store every chunk by itself, whatever the store has.")
@click.option(
    "--base",
    metavar="URL",
    type=NamedPath(),
    help="The earlier version to store it against: a file or directory of the store.",
)
@click.option("--adapter", metavar="DIR", type=NamedPath(), help="The adapter, as peft saved it, that was merged.")
@json_option
@quiet_option
@verbose_option
@store_options
@click.pass_obj
def command(
    run: Run, path: str, url: str, no_replace: bool, no_delta: bool, base: str | None, adapter: str | None
) -> None:
    """Store PATH at URL: a file, everything below a directory, or standard input if PATH is `-`.

    Only what the store does not have is sent. After an interruption, run the same command again: it goes on.

    A file goes to URL itself, or into it where URL is a directory in the store or ends with a slash. Everything below
    a directory goes to the same place below URL.

    A model is stored by how it differs from earlier ones: the store finds them by their tensors, or takes the --base
    that is named.

    \b
    Examples:
      shardflow put checkpoints/step-1000 shardflow://s3/bucket/models/llama/v1
      shardflow put merged /data/models/tuned --base /data/models/llama --adapter out/adapter
      shardflow put model.safetensors /data/models/bert/
      tar c logs | shardflow put - /data/models/logs.tar
    """
    from shardflow.store.progress import Progress

    store, inside = run.find(_named(path, url))
    run.resumable()
    progress = Progress()
    with following(lambda: _state(progress), hidden=run.quiet):
        source = sys.stdin.buffer if path == "-" else Path(path)
        store.put(
            source,
            inside,
            replace=not no_replace,
            deltas=not no_delta,
            base=base,
            adapter=adapter,
            progress=progress,
        )
    where = str(store.url.joined(inside))
    run.give({"url": where, **progress.as_dict(), "seconds": run.seconds}, _report(progress, where, run.seconds))
    run.tell_traffic(store.transport.totals, progress.totals)


def _named(path: str, url: str) -> str:
    """`put model.bin dir/` puts into a directory that may not exist yet, as `cp` users mean it."""
    if url.endswith("/") and path != "-" and not Path(path).is_dir():
        return url + os.path.basename(os.path.abspath(path))  # noqa: PTH100, PTH119  # the name as it was typed
    return url


def _state(progress: Progress) -> State:
    total, files = progress.bytes_total, progress.files_total
    if total and progress.bytes_done >= total:
        return State("put", progress.bytes_done, total, "sending the rest")
    return State("put", progress.bytes_done, total, f"{progress.files_done}/{files} files" if files > 1 else "")


def _report(progress: Progress, where: str, seconds: float) -> Iterator[str]:
    done, sent = progress.bytes_done, progress.totals.bytes_sent
    yield f"stored {count(progress.files_done, 'file')}, {size(done)}, at {where} in {timing(done, seconds)}"
    saved = f": {share(done - sent, done)} saved" if sent < done else ""
    yield f"  {size(progress.bytes_reused)} were there already, {size(sent)} sent{saved}"
    if progress.bytes_on_bases:
        yield f"  {size(progress.bytes_on_bases)} are stored by how they differ from earlier versions"
    if progress.files_unchanged:
        yield f"  {count(progress.files_unchanged, 'file')} unchanged"
