"""Gathers what a policy wants to know of a version: its metrics, its lineage, and the statements that hold.

Nothing that a client says counts by itself. A statement counts if a key of the policy signed it and it is about the
files that are there now; a signature, if it holds for them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from shardflow.errors import ShardflowError
from shardflow.registry.policy.rules import TrustedKey
from shardflow.registry.terms import Approval, Facts, Status, Verdict

MODEL_ID = re.compile(r"(?:^|[/:])(m-[0-9a-f]{32})(?:/|$)")
COMMIT_TAGS = ("mlflow.source.git.commit", "shardflow.code")
PARENT_TAG = "shardflow.parent"
BASE_PARAMETER = "shardflow.base_model"


class Tracking(Protocol):
    """The two questions that are asked of MLflow's tracking: its client and its stores both answer them."""

    def get_logged_model(self, model_id: str) -> Any: ...

    def get_run(self, run_id: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Subject:
    """A model version that facts are wanted of, as the registry knows it."""

    model: str
    location: str
    """Where its files are: what MLflow calls the download URI of the version."""
    source: str | None = None
    run_id: str | None = None
    author: str | None = None
    entered_at: float | None = None
    statements: tuple[str, ...] = ()
    production: Subject | None = None
    """The version that is in production now."""
    parents: int = 0
    """How many parents the registry knows of."""

    @property
    def model_id(self) -> str | None:
        """The logged model that it is."""
        found = MODEL_ID.search(self.source or "") or MODEL_ID.search(self.location)
        return found[1] if found else None


def facts_of(needs: Iterable[str], subject: Subject, keys: Mapping[str, TrustedKey], tracking: Tracking) -> Facts:
    """The facts of these names; the others are left empty, and nothing is looked up for them."""
    gathering = _Gathering(subject, keys, tracking)
    ways: dict[str, Callable[[], Any]] = {
        "metrics": lambda: metrics_of(subject, tracking),
        "production": lambda: metrics_of(subject.production, tracking) if subject.production else None,
        "verdicts": lambda: tuple(gathering.verdicts()),
        "approvals": lambda: tuple(gathering.approvals()),
        "signed_by": gathering.signed_by,
        "lineage_gaps": lambda: lineage_gaps(subject, tracking),
        "author": lambda: author_of(subject, tracking),
        "entered_at": lambda: subject.entered_at,
    }
    found = {name: ways[name]() for name in needs if name in ways}
    return Facts(**{"metrics": {}, "production": None, **found}, dismissed=tuple(dict.fromkeys(gathering.dismissed)))


def metrics_of(subject: Subject, tracking: Tracking) -> dict[str, float]:
    """The last value of each metric of the logged model; of the run, for what was registered without one."""
    model = _logged_model(subject, tracking)
    if model is None:
        run = _run(subject, None, tracking)
        return dict(run.data.metrics) if run else {}
    last: dict[str, Any] = {}
    for metric in model.metrics or ():
        before = last.get(metric.key)
        if before is None or (metric.timestamp, metric.step) >= (before.timestamp, before.step):
            last[metric.key] = metric
    return {key: metric.value for key, metric in last.items()}


def lineage_gaps(subject: Subject, tracking: Tracking) -> tuple[str, ...]:
    """What a complete lineage would name, and this one does not."""
    model = _logged_model(subject, tracking)
    run = _run(subject, model, tracking)
    gaps = [] if run else ["run"]
    if run is None or not any(run.data.tags.get(tag) for tag in COMMIT_TAGS):
        gaps.append("code")
    if run is None or not (run.inputs and run.inputs.dataset_inputs):
        gaps.append("dataset")
    if model is not None and not subject.parents and _names_lost_parent(model, tracking):
        gaps.append("parent")
    return tuple(gaps)


def author_of(subject: Subject, tracking: Tracking) -> str | None:
    """Who registered the version, or else whoever ran what made it."""
    if subject.author is not None:
        return subject.author
    run = _run(subject, _logged_model(subject, tracking), tracking)
    return (run.data.tags.get("mlflow.user") or run.info.user_id or None) if run else None


@dataclass
class _Gathering:
    """The evidence of one version; its files are looked up once, and only if something rests on them."""

    subject: Subject
    keys: Mapping[str, TrustedKey]
    tracking: Tracking
    dismissed: list[str] = field(default_factory=list)

    def verdicts(self) -> Iterable[Verdict]:
        for said in self._said:
            if said.kind == "verdict":
                suite = str(said.predicate.get("suite", ""))
                passed = said.predicate.get("result") == "PASSED"
                yield Verdict(passed, suite, said.by, _time(said.predicate))

    def approvals(self) -> Iterable[Approval]:
        for said in self._said:
            if said.kind != "approval":
                continue
            status = str(said.predicate.get("for"))
            if said.model != self.subject.model:
                self.dismissed.append(f"an approval is for {said.model}")
            elif status in set(Status):
                yield Approval(self.keys[said.by].person, Status(status), said.by, _time(said.predicate))

    def signed_by(self) -> tuple[str, ...]:
        from shardflow.registry.signing import checked, stored_signature  # noqa: PLC0415  # brings model-signing

        files = self._files
        if files is None:
            return ()
        found = checked(stored_signature(self.subject.location), files, self.keys.values())
        if found.problem:
            self.dismissed.append(found.problem)
        return found.by

    @cached_property
    def _said(self) -> list[Any]:
        from shardflow.registry import evidence_statements as statements  # noqa: PLC0415  # brings the signing libraries
        from shardflow.registry.keys import public_key  # noqa: PLC0415

        if not self.subject.statements or self._files is None:
            return []
        keys = {name: public_key(key.pem) for name, key in self.keys.items() if key.pem}
        found = []
        for text in self.subject.statements:
            try:
                said = statements.checked(text, keys, self.keys.values())
                statements.require_about(said, self._files)
                found.append(said)
            except statements.StatementRefused as refused:
                self.dismissed.append(refused.message)
        return found

    @cached_property
    def _files(self) -> Any:
        from shardflow.registry.evidence_digests import files_of  # noqa: PLC0415  # brings the store

        try:
            return files_of(self.subject.location)
        except ShardflowError as error:
            self.dismissed.append(error.message)
            return None


def _logged_model(subject: Subject, tracking: Tracking) -> Any | None:
    model_id = subject.model_id
    return _found(lambda: tracking.get_logged_model(model_id)) if model_id else None


def _run(subject: Subject, model: Any | None, tracking: Tracking) -> Any | None:
    run_id = subject.run_id or (model.source_run_id if model else None)
    return _found(lambda: tracking.get_run(run_id)) if run_id else None


def _names_lost_parent(model: Any, tracking: Tracking) -> bool:
    parent = model.tags.get(PARENT_TAG)
    if parent:
        return _found(lambda: tracking.get_logged_model(parent)) is None
    return BASE_PARAMETER in (model.params or {})


def _found(look: Callable[[], Any]) -> Any | None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # loaded with MLflow as a plugin

    try:
        return look()
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def _time(predicate: Mapping[str, Any]) -> float:
    at = predicate.get("at")
    return float(at) if isinstance(at, int | float) else 0.0
