"""A registry that says no: a promotion refused for a missing evaluation, then granted after one is recorded.

    python examples/registry_gate.py

Everything happens in a new directory, `.demo/registry` below the current one. The registry is a database, used without
a server; with `mlflow server --registry-store-uri shardflow-sqlite:///...` the same holds for everybody who asks it, in
MLflow's pages too. Lines that begin with `$` are commands that you could type.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import sys
import warnings
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import MetricThreshold
from sklearn.linear_model import LinearRegression

import shardflow
import shardflow.registry
from shardflow.cli.app import commands
from shardflow.cli.interruption import Interruption

DEMO = Path(".demo", "registry").absolute()
DATABASE = DEMO / "mlflow.db"
ENVIRONMENT = {
    "MLFLOW_TRACKING_URI": f"sqlite:///{DATABASE}",
    "MLFLOW_REGISTRY_URI": f"shardflow-sqlite:///{DATABASE}",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "SHARDFLOW_KEY": str(DEMO / "key.pem"),
    "SHARDFLOW_STATE": str(DEMO / "state"),
    "SHARDFLOW_CACHE": str(DEMO / "cache"),
}


def main() -> None:
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(parents=True)
    os.chdir(DEMO)
    os.environ.update(ENVIRONMENT)
    publish_a_model()
    be_refused()
    record_an_evaluation()
    be_granted()
    say("Done. All of it is in .demo/registry, which may be deleted. To look around in it:")
    settings = "MLFLOW_TRACKING_URI=sqlite:///.demo/registry/mlflow.db"
    print(f"  export {settings} {settings.replace('TRACKING', 'REGISTRY').replace('sqlite:', 'shardflow-sqlite:')}")
    print("  shardflow lineage prices/1")


def publish_a_model() -> None:
    say("1. A policy is written: what goes to production needs an evaluation. Then a model is published.")
    quiet()
    run("policy init shardflow-policy.yaml")
    store = shardflow.init("store")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("prices", artifact_location=f"{store.url}/prices"))
    inputs, prices = houses()
    model = LinearRegression().fit(inputs, prices)
    mlflow.sklearn.save_model(model, "model", pip_requirements=["scikit-learn"])
    run("publish model --name prices --version 1.0.0")
    run("promote prices/1 staging")


def be_refused() -> None:
    say("2. It is to go to production. Nobody has evaluated it, so the registry says no, and what to do.")
    run("promote prices/1 production", expect=1)
    run("policy explain prices/1 production", expect=1)


def record_an_evaluation() -> None:
    say("3. It is evaluated, and the verdict is recorded: signed, about exactly these files.")
    inputs, prices = houses(seed=2)
    recorded = shardflow.registry.record_verdict(
        "prices@1.0.0",
        suite="held-out houses",
        thresholds={"r2_score": MetricThreshold(threshold=0.9, greater_is_better=True)},
        data=inputs.assign(price=prices),
        targets="price",
        model_type="regressor",
        evaluator_config={"log_model_explainability": False},
    )
    print(f"{recorded.version} {'passed' if recorded.passed else 'failed'}: {dict(recorded.metrics)}")


def be_granted() -> None:
    say("4. Now it may go, and the history tells all of it, the refusal too.")
    run("promote prices/1 production --reason 'r2 above 0.9'")
    run("history prices/1")


def houses(seed: int = 1) -> tuple[pd.DataFrame, pd.Series]:
    """Sizes and ages of houses, and what they cost, with some noise."""
    numbers = np.random.default_rng(seed)
    table = pd.DataFrame({"size": numbers.uniform(40, 200, 200), "age": numbers.uniform(0, 100, 200)})
    return table, 3000 * table["size"] - 800 * table["age"] + numbers.normal(0, 10_000, 200)


def quiet() -> None:
    """MLflow's notes about its own setting up are not what this is about."""
    warnings.filterwarnings("ignore")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)


def run(line: str, *, expect: int = 0) -> None:
    """A command, in this process: importing MLflow for each would take most of the time."""
    print(f"$ shardflow {line}", flush=True)
    code = commands.run(shlex.split(line), Interruption())
    sys.stdout.flush()
    if code != expect:
        raise SystemExit(f"the demo failed: exit code {code} instead of {expect}")


def say(text: str) -> None:
    print(f"\n{text}\n", flush=True)


if __name__ == "__main__":
    main()
