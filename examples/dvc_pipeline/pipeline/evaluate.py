"""Stage evaluate: tests the logged model on data it has not seen, and writes a verdict for the registry."""

import json
from pathlib import Path

import mlflow
import numpy as np
import torch

import shardflow.flavor
from pipeline.places import params, use_tracking
from pipeline.prepare import PREPARED


def main() -> None:
    thresholds = params("evaluate")
    use_tracking()
    named = json.loads(Path("model.json").read_text())
    metrics = measured(shardflow.flavor.load_model(named["model"]))
    missed = {name: limit for name, limit in thresholds.items() if not reached(metrics[name], limit)}
    data = mlflow.data.from_dvc(PREPARED)
    with mlflow.start_run(run_id=named["run"]):
        mlflow.log_input(data, context="testing")
        mlflow.log_metrics({f"test.{name}": value for name, value in metrics.items()}, model_id=named["model"][8:])
    verdict = {
        "suite": "held-out",
        "model": named["model"],
        "run": named["run"],
        "data": {"path": data.source.data.path, "md5": data.source.data.md5},
        "metrics": metrics,
        "thresholds": thresholds,
        "missed": sorted(missed),
        "passed": not missed,
    }
    Path("verdict.json").write_text(json.dumps(verdict, indent=2) + "\n")
    Path("metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    print(f"accuracy {metrics['accuracy']:.3f}, loss {metrics['loss']:.3f}: {'missed' if missed else 'passed'}")


def measured(model: torch.nn.Module) -> dict[str, float]:
    values = torch.from_numpy(np.load(PREPARED / "test_values.npy"))
    labels = torch.from_numpy(np.load(PREPARED / "test_labels.npy"))
    with torch.inference_mode():
        answers = model.eval()(values)
    return {
        "accuracy": float((answers.argmax(1) == labels).float().mean()),
        "loss": float(torch.nn.functional.cross_entropy(answers, labels)),
    }


def reached(value: float, limit: dict[str, float]) -> bool:
    return limit.get("at_least", -np.inf) <= value <= limit.get("at_most", np.inf)


if __name__ == "__main__":
    main()
