"""Questions that MLflow's REST has no call for, asked as searches for model versions, and their answers.

shardflow.lineage = 'llama/3'               every ancestor and every descendant (see `lineage_search`)
shardflow.explain = 'llama/3 production'    what would stand against that move, in a tag of the version
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from mlflow.entities.model_registry import ModelVersion, ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from sqlalchemy.orm import Session

from shardflow.registry.actors import current_actor
from shardflow.registry.evidence_tags import EXPLAIN_FILTER, LINEAGE_FILTER
from shardflow.registry.gate import Gate
from shardflow.registry.lineage_search import relatives
from shardflow.registry.promoting import Wanted, cases, hearings, now, planned
from shardflow.registry.terms import Status

_ASKED = re.compile(
    rf"({re.escape(LINEAGE_FILTER)}|{re.escape(EXPLAIN_FILTER)})\s*=\s*'(.+)/(\d{{1,9}})(?: (\w+))?'\s*", re.DOTALL
)


def answer(
    filter_string: str | None, reading: Callable[[], AbstractContextManager[Session]], gate: Gate[Any]
) -> list[ModelVersion] | None:
    """What a search is answered that is a question of ours; None for any other search."""
    asked = _ASKED.fullmatch(filter_string or "")
    if asked is None:
        return None
    model, version = asked[2].replace("''", "'"), int(asked[3])
    if asked[1] == LINEAGE_FILTER:
        with reading() as session:
            return relatives(session, model, version)
    if asked[4] not in set(Status):
        raise MlflowException(f"Name one of {', '.join(Status)}: {asked[4]!r} is no status", INVALID_PARAMETER_VALUE)
    return [_explained(reading, gate, Wanted(model, version, Status(asked[4]), current_actor(), "question"))]


def _explained(reading: Callable[[], AbstractContextManager[Session]], gate: Gate[Any], wanted: Wanted) -> ModelVersion:
    with reading() as session:
        plan = planned(session, wanted, now())
        found = cases(session, gate, plan) if plan else []
    heard = hearings(gate, found)
    refusals = [
        {"version": one.move.version, "rule": each.rule, "remedy": each.remedy, "found": each.found}
        for one in heard
        for each in one.refusals
    ]
    grounds = heard[0].grounds if heard else {}
    text = json.dumps({"there": plan is not None and not plan.moves, "refusals": refusals, "evidence": dict(grounds)})
    tags = [ModelVersionTag(EXPLAIN_FILTER, text)] if plan else []
    return ModelVersion(wanted.model, str(wanted.version), 0, tags=tags)
