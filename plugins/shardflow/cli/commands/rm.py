"""`shardflow rm`: remove names."""

from __future__ import annotations

import click

from shardflow.cli.run import Run, json_option, quiet_option, store_options, verbose_option
from shardflow.cli.units import count


@click.command("rm", short_help="Remove a file, or a directory with -r.")
@click.argument("url")
@click.option("--recursive", "-r", is_flag=True, help="Remove a directory and everything below it.")
@json_option
@quiet_option
@verbose_option
@store_options
@click.pass_obj
def command(run: Run, url: str, recursive: bool) -> None:
    """Remove what is stored at URL. Nothing is asked; a directory needs --recursive.

    Only names go at once. Their space comes back when 'shardflow gc' finds that no other file needs it.

    \b
    Examples:
      shardflow rm /data/models/bert/model.safetensors
      shardflow rm -r shardflow://s3/bucket/models/llama/v1
    """
    store, path = run.find(url)
    removed = store.rm(path, recursive=recursive)
    run.give(
        {"url": str(store.url.joined(path)), "files": removed},
        [f"removed {count(removed, 'file')}; 'shardflow gc' makes their space free"],
    )
    run.tell_traffic(store.transport.totals)
