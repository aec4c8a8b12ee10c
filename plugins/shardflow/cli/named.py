"""Places as commands take them: never by an empty name, and a plain path that lies in a store for what is stored there.

A directory that is a store looks like any other, and files that lie in it beside its own are in no store.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from shardflow.numpy_at_rest import import_numpy_at_rest


class NamedPath(click.Path):
    """A path, or a URL, that is not empty: a variable that is not set must not become the current directory."""

    def __init__(
        self, *, exists: bool = False, file_okay: bool = True, path_type: type[str | Path] | None = None
    ) -> None:
        # Whether it may be read is told by who reads it: that is no wrong use.
        super().__init__(exists=exists, file_okay=file_okay, readable=False, path_type=path_type)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("an empty path names nothing", param, ctx)
        return super().convert(value, param, ctx)


class ReadPlace(NamedPath):
    """What is read: stored, or on the disk where the store that a path lies in has nothing of that name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        place = super().convert(value, param, ctx)
        url = url_in_store(place)
        return place if url is None or (Path(place).exists() and not _holds(url)) else url


class WrittenPlace(NamedPath):
    """What is written, into a store or onto the disk."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        place = super().convert(value, param, ctx)
        return url_in_store(place) or place


class WrittenPath(NamedPath):
    """What is written onto the disk, which may not be among the files of a store."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        place = super().convert(value, param, ctx)
        if place != "-" and (url := url_in_store(str(place))):
            self.fail(
                f"{place} lies in a store: name a place outside of it, and put what is there at {url}", param, ctx
            )
        return place


def url_in_store(place: str) -> str | None:
    """The URL of a plain path that lies in a store on this disk."""
    from shardflow.store.config import CONFIG_KEY
    from shardflow.transport.url import StoreURL

    if "://" in place:
        return None
    # A path whose links lead in a circle lies nowhere.
    whole = Path(os.path.realpath(place))
    in_store = any(os.path.isfile(directory / CONFIG_KEY) for directory in (whole, *whole.parents))  # noqa: PTH113
    return str(StoreURL.parse(place)) if in_store else None


def _holds(url: str) -> bool:
    import_numpy_at_rest()
    from shardflow.store.errors import PathMissing
    from shardflow.store.store import Store

    store, path = Store.find(url)
    try:
        store.kind(path)
    except PathMissing:
        return False
    return True
