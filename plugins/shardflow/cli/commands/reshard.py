"""`shardflow reshard`: divide a stored model into other files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State, following
from shardflow.cli.extras import needing
from shardflow.cli.run import Run, json_option, quiet_option, store_options, verbose_option
from shardflow.cli.text import columns
from shardflow.cli.units import count, read_size, size, timing

if TYPE_CHECKING:
    from shardflow.flavor.resharding import Resharding
    from shardflow.store.progress import Progress


@click.command("reshard", short_help="Divide a stored model into other files.")
@click.argument("model")
@click.option(
    "--sharding",
    type=click.Choice(["auto", "layers", "balanced", "attention", "single"]),
    default="auto",
    show_default=True,
    help="What the files keep together: whole blocks, equal sizes, attention apart from the rest, or all in one.",
)
@click.option(
    "--max-shard-size",
    type=read_size,
    metavar="SIZE",
    default="2GB",
    show_default=True,
    help="The most that a file may hold.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Only show the files that there would be.")
@click.option("--take-over", is_flag=True, help="Go on although another run says that it is at this model.")
@json_option
@quiet_option
@verbose_option
@store_options
@click.pass_obj
def command(run: Run, model: str, sharding: str, max_shard_size: int, dry_run: bool, take_over: bool) -> None:
    """Divide MODEL into other safetensors files, its index, card and sizes with them.

    MODEL is any URI that MLflow has for a model that is in a store, such as models:/llama/3, or the URL of a model or
    of a directory of safetensors in a store. Tensors are not stored again: what is sent are headers, and tensors so
    small that they share chunks. The model can be read all the while, and a run that was interrupted is finished by
    running it again.

    \b
    Examples:
      shardflow reshard models:/llama/3 --sharding balanced --max-shard-size 5GB --dry-run
      shardflow reshard shardflow://s3/bucket/models/llama/v1 --sharding layers
    """
    from shardflow.store.progress import Progress

    with needing("flavor", "reshard"):
        from shardflow.flavor.resharding import reshard
    run.resumable()
    progress = Progress()
    with following(lambda: _state(progress), hidden=run.quiet or dry_run):
        done = reshard(
            model,
            sharding,
            max_shard_size,
            dry_run=dry_run,
            take_over=take_over,
            options=run.options,
            progress=progress,
        )
    run.give({**done.as_dict(), "seconds": run.seconds}, _report(done, run.seconds))
    run.tell_traffic(progress.totals)


def _state(progress: Progress) -> State:
    return State("reshard", progress.bytes_done, progress.bytes_total)


def _report(done: Resharding, seconds: float) -> Iterator[str]:
    files = _files(len(done.plan.shards), done.plan.method)
    if not done.changed:
        yield f"nothing to do: {done.url} is {files} already"
        if done.removed:
            yield f"  {count(len(done.removed), 'file')} of an earlier run removed"
        return
    if done.dry_run:
        rows = [("size", "tensors", "file")]
        rows += [(size(shard.size), f"{len(shard.tensors):,}", shard.file) for shard in done.plan.shards]
        yield from columns(rows, ">><")
        yield f"{done.url} would be {files}; it is {_files(len(done.before))}"
        return
    yield f"{done.url} is now {files}, in {timing(done.plan.size, seconds)}"
    yield f"  {size(done.progress.bytes_reused)} were there already, {size(done.progress.totals.bytes_sent)} sent"
    if not done.noted:
        yield "  MLflow could not be told: the tags of the logged model are what they were"


def _files(number: int, method: str = "") -> str:
    return "one file" if number == 1 else ", ".join([count(number, "file"), *([method] if method else [])])
