"""Answers what MLflow's REST has no call for, as a search for model versions: the trail, its end, and deployments.

A client searches with the filter `shardflow.history = 'llama'` (or 'llama/3', or '*' for all),
`shardflow.deployments = '*'`, `shardflow.head = '*'` or `shardflow.count = '*'`. Each version in the answer stands for
one row, which is JSON in its tag `shardflow.row`. Under basic-auth MLflow leaves out what is about models that the user
may not read; the count tells whether it did.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.store.model_registry import SEARCH_MODEL_VERSION_MAX_RESULTS_THRESHOLD as LARGEST_PAGE

from shardflow.registry.audit import entries, head_of, rows_of
from shardflow.registry.deployments import deployments
from shardflow.registry.tables import Database

ROW_TAG = "shardflow.row"
EVERYTHING = "*"
HEAD_NAME = "shardflow"
"""What an answer about no model in particular is called."""

Subject = Literal["history", "deployments", "head", "count"]
_ASKED = re.compile(r"shardflow\.(history|deployments|head|count)\s*=\s*'(.+)'\s*", re.DOTALL)
_TOKEN = re.compile(r"[0-9]{1,18}")  # more digits are no number of a row
_ONE_VERSION = re.compile(r"(.+)/(\d{1,9})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be told: about everything, a model, or a version of it."""

    subject: Subject
    model: str | None = None
    version: int | None = None

    def as_filter(self) -> str:
        name = EVERYTHING if self.model is None else self.model.replace("'", "''")
        number = "" if self.version is None else f"/{self.version}"
        return f"shardflow.{self.subject} = '{name}{number}'"


def asked_history(filter_string: str | None) -> Question | None:
    """The question in a filter; None if it is a search like any other."""
    found = _ASKED.fullmatch(filter_string or "")
    if not found:
        return None
    subject: Any = found[1]
    name = found[2].replace("''", "'")
    if name == EVERYTHING:
        return Question(subject)
    one = _ONE_VERSION.fullmatch(name)
    return Question(subject, one[1], int(one[2])) if one else Question(subject, name)


def answer_to(
    db: Database, question: Question, limit: int, page_token: str | None
) -> tuple[list[ModelVersion], str | None]:
    """A page of the answer, and the token of the next page if there is one."""
    _require_mlflows_limit(limit)
    after = _after(page_token)
    rows = list(_rows(db, question, after, limit + 1))
    more = len(rows) > limit
    shown = rows[:limit]
    return list(_versions(shown)), str(shown[-1]["seq"]) if more else None


def _require_mlflows_limit(limit: int) -> None:
    """Refuse a page that MLflow's own search would not give, in its words."""
    if not isinstance(limit, int) or limit < 1:
        message = f"Invalid value for max_results. It must be a positive integer, but got {limit}"
        raise MlflowException(message, INVALID_PARAMETER_VALUE)
    if limit > LARGEST_PAGE:
        message = f"It must be at most {LARGEST_PAGE}, but got value {limit}"
        raise MlflowException(f"Invalid value for request parameter max_results. {message}", INVALID_PARAMETER_VALUE)


def _after(page_token: str | None) -> int:
    """The row that a page begins after."""
    if not page_token:
        return 0
    if not _TOKEN.fullmatch(page_token):
        raise MlflowException(f"Invalid page token {page_token[:20]!r}: give one as it came", INVALID_PARAMETER_VALUE)
    return int(page_token)


def _rows(db: Database, question: Question, after: int, limit: int) -> Iterable[dict[str, Any]]:
    if question.subject == "head":
        return [{"seq": 1, **asdict(head_of(db)), "model": HEAD_NAME, "version": None}]
    if question.subject == "count":
        return [{"seq": 1, "rows": rows_of(db), "model": HEAD_NAME, "version": None}]
    if question.subject == "history":
        return [asdict(one) for one in entries(db, question.model, question.version, after=after, limit=limit)]
    found = deployments(db, model=question.model, version=question.version)
    numbered = [{"seq": number, **asdict(one)} for number, one in enumerate(found, 1)]
    return numbered[after : after + limit]


def _versions(rows: Iterable[Mapping[str, Any]]) -> Iterator[ModelVersion]:
    for row in rows:
        tag = ModelVersionTag(ROW_TAG, json.dumps(row))
        yield ModelVersion(row["model"], str(row["version"] or 0), 0, tags=[tag], current_stage="None", status="READY")
