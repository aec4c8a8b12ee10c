"""`shardflow get`: write stored files to disk, or one to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State, following
from shardflow.cli.named import WrittenPath
from shardflow.cli.run import Run, json_option, quiet_option, store_options, verbose_option
from shardflow.cli.units import count, size, timing

if TYPE_CHECKING:
    from shardflow.store.progress import Progress
    from shardflow.store.store import Store

PIECE_BYTES = 32 << 20


@click.command("get", short_help="Write what is stored to disk, verified.")
@click.argument("url")
@click.argument("path", type=WrittenPath())
@json_option
@quiet_option
@verbose_option
@store_options
@click.pass_obj
def command(run: Run, url: str, path: str) -> None:
    """Write the file or directory stored at URL to PATH; to standard output if PATH is `-`.

    Every byte is verified before a file gets its name. After an interruption, run the same command again: it goes on.
    A file that is there already is replaced, and what is the same in it is not fetched again.

    \b
    Examples:
      shardflow get shardflow://s3/bucket/models/llama/v1 llama-v1
      shardflow get /data/models/logs.tar - | tar t
    """
    from shardflow.store.progress import Progress

    if path == "-" and run.json:
        raise click.UsageError("--json and the file cannot both go to standard output")
    store, inside = run.find(url)
    run.resumable()
    progress = Progress()
    with following(lambda: _state(progress), hidden=run.quiet or path == "-"):
        if path == "-":
            _to_stdout(store, inside)
        else:
            store.get(inside, path, progress=progress)
    if path != "-":
        document = {"url": str(store.url.joined(inside)), "path": path, **progress.as_dict(), "seconds": run.seconds}
        run.give(document, _report(progress, path, run.seconds))
    run.tell_traffic(store.transport.totals, progress.totals)


def _to_stdout(store: Store, path: str) -> None:
    with store.open(path) as file:
        while data := memoryview(file.read(PIECE_BYTES)):
            # With PYTHONUNBUFFERED set, a write may take less than it was given.
            while data:
                data = data[sys.stdout.buffer.write(data) :]
    sys.stdout.buffer.flush()


def _state(progress: Progress) -> State:
    files = progress.files_total
    note = f"{progress.files_done}/{files} files" if files > 1 else ""
    return State("get", progress.bytes_done, progress.bytes_total, note)


def _report(progress: Progress, path: str, seconds: float) -> Iterator[str]:
    done = progress.bytes_done
    yield f"wrote {count(progress.files_done, 'file')}, {size(done)}, to {path} in {timing(done, seconds)}, verified"
    if progress.bytes_reused:
        yield f"  {size(progress.bytes_reused)} were there already"
