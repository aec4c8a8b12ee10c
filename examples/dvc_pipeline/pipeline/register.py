"""Stage register: makes a model that passed its tests a version in MLflow's registry, and hands the verdict in."""

import hashlib
import json
import os
from pathlib import Path

import mlflow
from mlflow.models import EvaluationResult, MetricThreshold

import shardflow.registry
from pipeline.places import params, use_tracking


def main() -> None:
    use_tracking()
    text = Path("verdict.json").read_bytes()
    verdict = json.loads(text)
    name = params("register")["name"]
    result = {"name": name, "version": None, "model": verdict["model"]}
    if verdict["passed"]:
        digest = hashlib.sha256(text).hexdigest()
        version = mlflow.register_model(verdict["model"], name, tags={"verdict.sha256": digest}).version
        result["version"] = int(version)
        print(f"{verdict['model']} is version {version} of {name}")
        judged = [f"{name}/{version}"]
    else:
        print(f"{verdict['model']} is not registered: it missed {', '.join(verdict['missed'])}")
        judged = registered_before(verdict, name)
    if "SHARDFLOW_KEY" in os.environ:
        for version in judged:
            sign(version, verdict)
    Path("registered.json").write_text(json.dumps(result, indent=2) + "\n")


def registered_before(verdict: dict, name: str) -> list[str]:
    """The versions that this very model became when it passed easier tests: the last verdict counts for them too."""
    found = mlflow.MlflowClient().search_model_versions(f"name='{name}' and run_id='{verdict['run']}'")
    return [f"{name}/{each.version}" for each in found if verdict["model"][8:] in each.source]


def sign(version: str, verdict: dict) -> None:
    """Hand the verdict in, signed, where the policy of a Shardflow registry asks for an evaluation."""
    thresholds = {
        name: MetricThreshold(threshold=next(iter(limit.values())), greater_is_better="at_least" in limit)
        for name, limit in verdict["thresholds"].items()
    }
    result = EvaluationResult(metrics=verdict["metrics"], artifacts={})
    shardflow.registry.record_verdict(version, thresholds=thresholds, suite=verdict["suite"], result=result)


if __name__ == "__main__":
    main()
