"""Where in which store an artifact URI lies; a first write makes the store where the artifact root begins."""

from __future__ import annotations

import logging
import re

from shardflow.store import known
from shardflow.store.store import Store
from shardflow.transport import StoreURL

# What MLflow hangs below an artifact root: experiment, then a run, a logged model or a trace, then its artifacts.
_ENTITY = re.compile(r"/([0-9a-f]{32}|models/m-[0-9a-f]{32}|traces/tr-[0-9a-f]+)(/.*)?$")
_EXPERIMENT = re.compile(r"(?<=[^/])/[0-9]+$")

# Under MLflow's own logger, whose level and handler the user has set already.
_logger = logging.getLogger("mlflow.shardflow")


def found(url: StoreURL) -> tuple[Store, str]:
    """The store that a URL lies in and the path it has there; StoreMissing if there is none.

    MLflow makes a repository for each request, so stores that were found stay known to the process.
    """
    return known.found(url)


def found_to_write(url: StoreURL) -> tuple[Store, str]:
    """The same, or a new store; one that was removed under this process is not written to any more."""
    return known.found_to_write(
        url,
        artifact_root(url),
        lambda root: _logger.info("There was no store at %s or above it: made one at %s", url, root),
    )


def artifact_root(url: StoreURL) -> StoreURL:
    """The root that a server or an experiment was given, as far as a URL below it tells."""
    entity = _ENTITY.search(url.path)
    if entity is None:
        return url
    above = _EXPERIMENT.sub("", url.path[: entity.start()])
    return StoreURL(url.backend, above) if above else url
