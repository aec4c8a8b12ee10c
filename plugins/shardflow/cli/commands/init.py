"""`shardflow init`: make a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from shardflow.cli.run import Run, json_option, quiet_option, store_options, verbose_option
from shardflow.cli.units import read_size, read_time

if TYPE_CHECKING:
    from shardflow.store.config import Settings


def _setting(
    name: str, field: str, read: Callable[[str], float], metavar: str, text: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(name, field, type=read, metavar=metavar, help=text)


def _delta(
    name: str, field: str, read: Callable[[str], float], metavar: str, text: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return _setting(name, f"delta_{field}", read, metavar, text)


@click.command("init", short_help="Make a store.")
@click.argument("url")
@_setting("--pack-size", "pack_bytes", read_size, "SIZE", "About how large a stored object is. [default: 32MiB]")
@_setting("--chunk-size", "chunk_bytes", read_size, "SIZE", "Cut tensors into pieces of this. [default: 4MiB]")
@_setting("--inline-size", "inline_bytes", read_size, "SIZE", "Files up to this need no pack. [default: 64KiB]")
@_setting("--grace", "gc_grace_seconds", read_time, "TIME", "What gc leaves to running writers. [default: 24h]")
@click.option("--no-deltas", is_flag=True, help="Never store a version by how it differs from another.")
@_delta("--delta-depth", "depth", int, "N", "Chunks to decode before one, at most. [default: 4]")
@_delta("--delta-candidates", "candidates", int, "N", "Earlier models kept to choose from. [default: 2]")
@_delta("--delta-worth", "worth", float, "SHARE", "What a delta may take of the size without. [default: 0.9]")
@_delta("--delta-rank", "low_rank", int, "N", "Look for merged adapters up to this rank; 0: never. [default: 256]")
@json_option
@quiet_option
@verbose_option
@store_options
@click.pass_obj
def command(run: Run, /, url: str, **given: Any) -> None:
    """Make a store at URL. Its settings hold for every writer, and stay as they are.

    \b
    Examples:
      shardflow init /data/models
      shardflow init shardflow://s3/bucket/models --pack-size 128MiB
    """
    import msgspec

    from shardflow.store.store import Store

    store = Store.init(url, _settings(given), run.options)
    settings = msgspec.to_builtins(store.config.settings)
    run.give(
        {"url": str(store.url), "id": store.config.id, "settings": settings},
        [f"made a store at {store.url}"],
    )
    run.tell_traffic(store.transport.totals)


def _settings(given: dict[str, Any]) -> Settings:
    from shardflow.store.config import Deltas, Settings

    enabled = not given.pop("no_deltas")
    chosen = {name: value for name, value in given.items() if value is not None}
    deltas = {name.removeprefix("delta_"): chosen.pop(name) for name in list(chosen) if name.startswith("delta_")}
    try:
        return Settings(**chosen, deltas=Deltas(enabled=enabled, **deltas))
    except ValueError as error:
        raise click.UsageError(str(error)) from None
