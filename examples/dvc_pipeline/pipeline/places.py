"""Where runs and weights go: MLflow's tracking database and one store, both in `.shardflow` at the project's root.

Set MLFLOW_TRACKING_URI to the address of a server, and SHARDFLOW_STORE to the URL of a store (such as
`shardflow://s3/bucket/models`), to share them with others.
"""

import os
from pathlib import Path

import mlflow
import yaml

import shardflow

EXPERIMENT = "dvc-pipeline"


def params(stage: str) -> dict:
    return yaml.safe_load(Path("params.yaml").read_text())[stage]


def home() -> Path:
    """DVC runs some experiments in a copy of the project: these belong to the project itself."""
    place = Path(os.environ.get("DVC_ROOT", ".")).resolve() / ".shardflow"
    place.mkdir(exist_ok=True)
    (place / ".gitignore").write_text("*\n")
    return place


def store_url() -> str:
    named = os.environ.get("SHARDFLOW_STORE")
    if named:
        return named
    place = home() / "store"
    if not (place / "shardflow.json").exists():
        shardflow.init(str(place))
    return f"shardflow://file{place}"


def use_tracking() -> None:
    """Log to the database, and the files of models to the store."""
    if "MLFLOW_TRACKING_URI" not in os.environ:
        mlflow.set_tracking_uri(f"sqlite:///{home() / 'mlflow.db'}")
    if mlflow.get_experiment_by_name(EXPERIMENT) is None:
        mlflow.create_experiment(EXPERIMENT, artifact_location=f"{store_url()}/artifacts")
    mlflow.set_experiment(EXPERIMENT)
