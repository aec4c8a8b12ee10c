"""Which stores a project has used: one that is gone must not be taken for a place where nothing was pushed yet.

A disk that is not mounted and a bucket that was emptied look like a new place. A push would make a store there and
report success, with none of what was pushed before. So the project keeps a note of each store in `.dvc/tmp`, which is
no part of its repository.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from shardflow.dvc.projects import project_around
from shardflow.errors import ShardflowError
from shardflow.store.store import Store
from shardflow.transport import StoreURL

_SAME_PLACE = ("endpoint", "account_name")
"""Options by which the same URL is another place."""

_logger = logging.getLogger("dvc.shardflow")


class StoreGone(ShardflowError):
    """There was a store, and now there is none."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """The notes of one project, for remotes with certain options. What cannot be noted is not remembered."""

    directory: Path
    options: Mapping[str, str]

    def note(self, store: Store) -> None:
        """This store has been used now."""
        place, known = self._place(store.url), self._known(store.url)
        if known == store.config.id:
            return
        if known:
            _logger.warning(
                "the store at %s is not the one that this project has used there until now: 'dvc push' sends what the "
                "cache has of what was in the other one",
                store.url,
            )
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(store.config.id)

    def used_at(self, url: StoreURL) -> StoreURL | None:
        """Where at or above a URL a store has been used."""
        above: StoreURL | None = url
        while above is not None and not self._known(above):
            above = above.parent
        return above

    def gone(self, url: StoreURL) -> StoreGone:
        """What to say of a store that has been used there."""
        return StoreGone(
            f"the store at {url} is gone, which this project has used",
            remedy="look whether a disk is not mounted, a bucket was emptied or the remote's URL is wrong; to begin "
            f"anew, run 'shardflow init {url}' and push again",
        )

    def _known(self, url: StoreURL) -> str:
        """The id of the store that was used there; empty for none."""
        try:
            return self._place(url).read_text()
        except (OSError, ValueError):
            return ""

    def _place(self, url: StoreURL) -> Path:
        options = dict(self.options)
        if text := options.pop("connection_string", ""):
            from shardflow.transport.az import parse_connection_string  # noqa: PLC0415  # obstore, which few need

            options = {**parse_connection_string(text), **options}
        parts = [str(url), *(options.get(name, "") for name in _SAME_PLACE)]
        return self.directory / sha256("\n".join(parts).encode()).hexdigest()


def remembered_here(options: Mapping[str, str]) -> Remembered | None:
    """The notes of the project that this process works in, if it is one."""
    project = project_around()
    return Remembered(project.root / ".dvc" / "tmp" / "shardflow" / "stores", options) if project else None
