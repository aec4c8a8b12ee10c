"""What a client asks of a registry beyond MLflow's calls, of a server or a database alike: trail and deployments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from shardflow.errors import ShardflowError
from shardflow.registry.audit import Entry, Head
from shardflow.registry.deployments import Deployment, Outcome
from shardflow.registry.history_search import ROW_TAG, Question
from shardflow.registry.references import pages

PAGE = 1000
MORE_THAN_SHOWN = 1 << 62  # for somebody who may not even know


class NotARegistry(ShardflowError):
    """A server or a database without this package's store."""


class NotShownAll(ShardflowError):
    """A history of which somebody may read only a part."""


def trail_of(client: Any, model: str | None = None, version: int | None = None, *, after: int = 0) -> Iterator[Entry]:
    """The rows of the trail about everything, a model, or a version."""
    for row in _rows(client, Question("history", model, version), str(after) if after else None):
        yield Entry(**row)


def follow_trail(client: Any, *watchers: Callable[[Entry], object]) -> Head:
    """Show every row to each watcher, a page at a time, and give the end of the trail as of then.

    Others may be adding to it meanwhile. Nothing of it is kept here, because it can be longer than memory.
    """
    last, shown, more = 0, 0, True
    head = None
    while more:
        before = last
        for row in trail_of(client, after=last):
            last, shown = row.seq, shown + 1
            for watch in watchers:
                watch(row)
        head = head_told(client)
        # If rows were promised and none came, the last ones were removed.
        more = head is not None and head.seq > last > before
    if head is None or shown < min(_rows_there(client), head.seq):
        raise NotShownAll(
            "the server does not show you the whole of its history",
            remedy="sign in as somebody who may read every model",
        )
    return head


def deployments_of(client: Any, model: str | None = None, version: int | None = None) -> list[Deployment]:
    found = _rows(client, Question("deployments", model, version))
    return [Deployment(**{**_without(row, "seq"), "outcome": Outcome(row["outcome"])}) for row in found]


def head_told(client: Any) -> Head | None:
    """The end of the trail as the registry keeps it; None for somebody who may not see all of it."""
    row = next(iter(_rows(client, Question("head"))), None)
    return Head(row["seq"], row["hash"]) if row else None


def stages_now(client: Any) -> dict[tuple[str, int], str]:
    """Every version and its stage."""
    return {(one.name, int(one.version)): one.current_stage for page in pages(client, size=PAGE) for one in page}


def _rows_there(client: Any) -> int:
    """How many rows there are, whoever may read them."""
    told = next((int(row["rows"]) for row in _rows(client, Question("count"))), None)
    return MORE_THAN_SHOWN if told is None else told


def _rows(client: Any, question: Question, token: str | None = None) -> Iterator[dict[str, Any]]:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes a second

    try:
        for page in pages(client, question.as_filter(), size=PAGE, token=token):
            yield from (json.loads(found.tags[ROW_TAG]) for found in page)
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        raise NotARegistry(
            "the registry keeps no history: it is MLflow's own",
            remedy="start the server with --registry-store-uri shardflow-..., or set MLFLOW_REGISTRY_URI so",
        ) from error


def _without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
