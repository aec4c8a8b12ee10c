"""Makes statements and hands them in: that a version passed an evaluation, or that somebody approves its next move."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardflow.registry.evidence_digests import files_of
from shardflow.registry.evidence_statements import Kind, stated
from shardflow.registry.evidence_tags import tag_of
from shardflow.registry.keys import signer
from shardflow.registry.references import Registered, find
from shardflow.registry.terms import Status

if TYPE_CHECKING:
    from mlflow.models import EvaluationResult, MetricThreshold


@dataclass(frozen=True, slots=True)
class Recorded:
    """What an evaluation came to, and was recorded as."""

    version: str
    suite: str
    passed: bool
    metrics: Mapping[str, float]
    problem: str | None = None


def record_verdict(
    version: str,
    *,
    thresholds: Mapping[str, MetricThreshold],
    suite: str = "evaluation",
    result: EvaluationResult | None = None,
    baseline: EvaluationResult | None = None,
    key: str | Path | None = None,
    client: Any = None,
    **evaluation: Any,
) -> Recorded:
    """Evaluate a model version against thresholds, and record the verdict, signed, whether it passed or not.

    `version` is such as `llama/3`, `llama/1.4.2` or `models:/llama@candidate`. Without a `result`, the model is
    evaluated with `mlflow.models.evaluate(model, **evaluation)`. `baseline` is the result of another model, for
    thresholds that ask for a change. `key` is the private key, else that of SHARDFLOW_KEY.
    """
    from mlflow.models import evaluate  # noqa: PLC0415  # for those who evaluate

    signing, found = signer(key), find(version, client)
    if result is None:
        result = evaluate(model=f"models:/{found.name}", **evaluation)
    problem = _problem(thresholds, result, baseline)
    metrics = {name: float(value) for name, value in result.metrics.items() if name in thresholds}
    predicate = {
        "result": "FAILED" if problem else "PASSED",
        "configuration": [{"name": suite, "annotations": {name: _told(each) for name, each in thresholds.items()}}],
        "suite": suite,
        "metrics": metrics,
        "at": time.time(),
    }
    _hand_in("verdict", found, predicate, signing, client)
    return Recorded(found.name, suite, problem is None, metrics, problem)


def approve(version: str, status: Status, *, key: str | Path | None = None, client: Any = None) -> Registered:
    """Sign that the owner of a key stands behind a version's move to a status, and hand that in."""
    signing, found = signer(key), find(version, client)
    _hand_in("approval", found, {"for": status.value, "at": time.time()}, signing, client)
    return found


def _hand_in(kind: Kind, found: Registered, predicate: Mapping[str, Any], signing: Any, client: Any) -> None:
    from mlflow import MlflowClient  # noqa: PLC0415

    text = stated(kind, found.model, files_of(found.location), predicate, signing)
    (client or MlflowClient()).set_model_version_tag(found.model, str(found.version), tag_of(text), text)


def _problem(thresholds: Mapping[str, MetricThreshold], result: Any, baseline: Any) -> str | None:
    from mlflow import validate_evaluation_results  # noqa: PLC0415
    from mlflow.models.evaluation.validation import ModelValidationFailedException  # noqa: PLC0415

    try:
        validate_evaluation_results(dict(thresholds), result, baseline)
    except ModelValidationFailedException as failed:
        return str(failed.message)
    return None


def _told(threshold: MetricThreshold) -> dict[str, Any]:
    names = ("threshold", "min_absolute_change", "min_relative_change", "greater_is_better")
    values = {name: getattr(threshold, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
