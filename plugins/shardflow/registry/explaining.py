"""Asks the registry what would stand against a move, without making it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardflow.errors import ShardflowError
from shardflow.registry.evidence_tags import EXPLAIN_FILTER
from shardflow.registry.references import Registered
from shardflow.registry.terms import Refusal, Status


class NotExplained(ShardflowError):
    """A registry that cannot say why it would refuse a move."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What stands against a move, and what speaks for it."""

    version: Registered
    after: Status
    there: bool
    """Whether the version has that status already."""
    refusals: tuple[Refusal, ...]
    evidence: Mapping[str, Any]

    @property
    def allowed(self) -> bool:
        return not self.refusals

    def as_dict(self) -> dict[str, Any]:
        missing = [{"rule": each.rule, "remedy": each.remedy, "found": each.found} for each in self.refusals]
        return {
            "version": self.version.name,
            "before": self.version.status.value,
            "after": self.after.value,
            "allowed": self.allowed,
            "missing": missing,
            "evidence": dict(self.evidence),
        }


def explained(found: Registered, status: Status, client: Any) -> Explanation:
    """What the server's own policy says to a move."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # takes a second

    name = found.model.replace("'", "''")
    try:
        answers = client.search_model_versions(f"{EXPLAIN_FILTER} = '{name}/{found.version} {status}'")
    except MlflowException as error:
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        answers = []
    if not answers or EXPLAIN_FILTER not in answers[0].tags:
        raise NotExplained(
            f"the registry has no policy for {found.name}",
            remedy="start MLflow's server with a shardflow-...:// registry",
        )
    told = json.loads(answers[0].tags[EXPLAIN_FILTER])
    refusals = tuple(Refusal(each["rule"], each["remedy"], each["found"]) for each in told["refusals"])
    return Explanation(found, status, bool(told["there"]), refusals, told["evidence"])
