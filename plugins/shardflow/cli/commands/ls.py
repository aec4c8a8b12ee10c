"""`shardflow ls`: the names in a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from shardflow.cli.run import Run, as_json, json_lines_option, show, store_options, verbose_option
from shardflow.cli.text import columns
from shardflow.cli.units import moment, size

if TYPE_CHECKING:
    from shardflow.store.entries import Entry
    from shardflow.store.store import Store


@click.command("ls", short_help="List names.")
@click.argument("url")
@click.option("--recursive", "-r", is_flag=True, help="List the files in directories too, at any depth.")
@click.option("--long", "-l", "long", is_flag=True, help="With size and date.")
@json_lines_option
@verbose_option
@store_options
@click.pass_obj
def command(run: Run, url: str, recursive: bool, long: bool) -> None:
    """List the names at URL. Names of directories end with a slash.

    With --json each line is an object with path, kind (file or directory) and url; with -l also size in bytes, created
    (Unix seconds) and digest (BLAKE3).

    \b
    Examples:
      shardflow ls -l shardflow://s3/bucket/models/llama
      shardflow ls -r --json /data/models | jq -r .url
    """
    store, path = run.find(url)
    entries = store.ls(path, recursive=recursive, details=long)
    if run.json:
        for entry in entries:
            print(as_json(_document(entry, store)))
    elif long:
        show(_table(entries, path))
    else:
        show(_name(entry, path) for entry in entries)
    run.tell_traffic(store.transport.totals)


def _document(entry: Entry, store: Store) -> dict[str, Any]:
    return {**entry.as_dict(), "url": str(store.url.joined(entry.path))}


def _table(entries: Iterable[Entry], path: str) -> Iterator[str]:
    rows = [("size", "stored", "name")]
    rows += [
        (
            "" if entry.size is None else size(entry.size),
            "" if entry.created is None else moment(entry.created),
            _name(entry, path),
        )
        for entry in entries
    ]
    yield from columns(rows, "><<")


def _name(entry: Entry, listed: str) -> str:
    """As seen from the directory that is listed; a file that is listed has only its own name to show."""
    below = entry.path.removeprefix(f"{listed}/") if listed else entry.path
    name = below.rsplit("/", 1)[-1] if below == listed else below
    return f"{name}/" if entry.kind == "directory" else name
