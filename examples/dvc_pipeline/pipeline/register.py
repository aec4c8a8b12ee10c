"""Stage register: makes a model that passed its tests a version in MLflow's registry."""

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
        if "SHARDFLOW_KEY" in os.environ:
            sign(f"{name}/{version}", verdict)
    else:
        print(f"{verdict['model']} is not registered: it missed {', '.join(verdict['missed'])}")
    Path("registered.json").write_text(json.dumps(result, indent=2) + "\n")


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
