"""Where the files of a model are, for every URI that MLflow gives a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.models_artifact_repo import ModelsArtifactRepository
from mlflow.store.artifact.runs_artifact_repo import RunsArtifactRepository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from shardflow.flavor.errors import ModelMissing
from shardflow.flavor.folders import Folder, LocalFolder, StoreFolder
from shardflow.store.store import Store
from shardflow.transport.url import SCHEME

_RUNS, _MODELS = "runs:/", "models:/"


def is_store_url(uri: str | None) -> bool:
    return uri is not None and uri.startswith(f"{SCHEME}:")


def model_folder(model_uri: str, dst_path: str | None = None) -> Folder:
    """The directory that a model's files are read from: in the store itself, or on the disk.

    A store is read where it is, unless `dst_path` asks for a copy. From any other place MLflow downloads the files.
    """
    location = located(model_uri)
    if is_store_url(location):
        store, path = Store.find(location)
        if dst_path is None:
            return StoreFolder(store, path)
        store.get(path, dst_path)
        return LocalFolder(Path(dst_path))
    if "://" not in location and Path(location).is_dir():
        return LocalFolder(Path(location))
    return LocalFolder(Path(_downloaded(model_uri, dst_path)))


def located(model_uri: str) -> str:
    """The place that a `models:/` or `runs:/` URI stands for; other URIs stand for themselves."""
    if not isinstance(model_uri, str):
        raise ModelMissing(
            f"a {type(model_uri).__name__} is no model URI",
            remedy="pass what names the model, as model_info.model_uri does",
        )
    if not model_uri.startswith((_RUNS, _MODELS)):
        return model_uri
    try:
        return _of_run(model_uri) if model_uri.startswith(_RUNS) else _of_model(model_uri)
    except MlflowException as error:
        raise ModelMissing(
            f"{model_uri} names no model: {error.message}", remedy="check the name, the version and the tracking URI"
        ) from None


def is_there(location: str) -> bool:
    """Whether a place outside of stores holds anything."""
    try:
        if is_local_uri(location):
            return Path(local_file_uri_to_path(location)).exists()
        return bool(get_artifact_repository(location).list_artifacts())
    except MlflowException as error:
        raise ModelMissing(f"{location} cannot be looked at: {error.message}", remedy="check the URI") from None


def _of_model(model_uri: str) -> str:
    found = str(ModelsArtifactRepository.get_underlying_uri(model_uri))
    return _of_model(found) if found.startswith(_MODELS) and found != model_uri else found


def _of_run(model_uri: str) -> str:
    """The model of that name which the run logged, or else the directory of that name among its artifacts."""
    run_id, name = RunsArtifactRepository.parse_runs_uri(model_uri)
    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    outputs: list[Any] = run.outputs.model_outputs if run.outputs else []
    models = [client.get_logged_model(output.model_id) for output in outputs]
    named = [model for model in models if model.name == name]
    if named:
        return str(max(named, key=lambda model: model.creation_timestamp).artifact_location)
    return str(RunsArtifactRepository.get_underlying_uri(model_uri))


def _downloaded(model_uri: str, dst_path: str | None) -> str:
    try:
        return str(download_artifacts(artifact_uri=model_uri, dst_path=dst_path))
    except (MlflowException, OSError) as error:
        raise ModelMissing(f"{model_uri} cannot be fetched: {error}", remedy="check the URI") from None
