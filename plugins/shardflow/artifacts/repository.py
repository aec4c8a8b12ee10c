"""MLflow's artifacts in a store: logged and fetched as whole directories, deduplicated, resumable, verified.

A repository is rooted wherever MLflow says: at a store's root, at a run's or a model's artifacts, or deeper. Uploads
in parts and presigned addresses are not offered: they would pass by the chunking, and MLflow does without them.
"""

from __future__ import annotations

from pathlib import Path

from mlflow.entities import FileInfo
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.utils.file_utils import create_tmp_dir

from shardflow.artifacts.places import found, found_to_write
from shardflow.artifacts.progress import shown
from shardflow.artifacts.refusals import as_mlflow_tells
from shardflow.store.errors import BadPath, PathMissing, SourceUnusable, StoreMissing
from shardflow.store.paths import normal
from shardflow.store.store import Store
from shardflow.transport import StoreURL


class ShardflowArtifactRepository(ArtifactRepository):
    """Artifacts below a `shardflow://` URL."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        with as_mlflow_tells():
            self._url = StoreURL.parse(artifact_uri)

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Store a file, under its own name."""
        with as_mlflow_tells():
            file = Path(local_file)
            if file.is_dir():
                raise SourceUnusable(f"{file} is a directory", remedy="log it with log_artifacts")
            store, path = self._to_write(_below(artifact_path, file.name))
            store.put(file, path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Store everything below a directory, in one pass; what readers look for last becomes visible last."""
        with as_mlflow_tells():
            directory = Path(local_dir)
            if not directory.is_dir():
                raise SourceUnusable(f"{directory} is not a directory", remedy="log a file with log_artifact")
            store, path = self._to_write(_below(artifact_path))
            with shown("Storing artifacts") as progress:
                store.put(directory, path, progress=progress)

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """What is right below a directory, with sizes; nothing for a file, and nothing where nothing was logged."""
        with as_mlflow_tells():
            inside = _below(path)
            try:
                store, root = found(self._url)
                directory = _joined(root, inside)
                entries = list(store.ls(directory, details=True))
            except (StoreMissing, PathMissing):
                return []
        if len(entries) == 1 and entries[0].path == directory:
            return []
        skipped = len(root) + 1 if root else 0
        return [FileInfo(entry.path[skipped:], entry.kind == "directory", entry.size) for entry in entries]

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Fetch a file or a directory into a directory, below which it keeps its path; returns where it is."""
        with as_mlflow_tells():
            inside = _below(artifact_path)
            target = _target(dst_path)
            try:
                store, root = found(self._url)
                self._fetch(store, _joined(root, inside), target / inside)
            except (StoreMissing, PathMissing):
                if inside:
                    raise
            return str(target / inside)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Remove names. Their bytes stay until `shardflow gc` finds that nothing else needs them.

        What is gone already is no failure: `mlflow gc` would stop at it each time.
        """
        with as_mlflow_tells():
            inside = _below(artifact_path)
            try:
                store, root = found(self._url)
                store.rm(_joined(root, inside), recursive=True)
            except (StoreMissing, PathMissing):
                return

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        with as_mlflow_tells():
            store, root = found(self._url)
            path = _joined(root, _below(remote_file_path))
            if store.kind(path) != "file":
                raise PathMissing(f"{store.url.joined(path)} is a directory", remedy="name a file in it")
            store.get(path, local_path)

    def _to_write(self, inside: str) -> tuple[Store, str]:
        store, root = found_to_write(self._url)
        return store, _joined(root, inside)

    def _fetch(self, store: Store, path: str, target: Path) -> None:
        if path and store.kind(path) == "file":
            target.parent.mkdir(parents=True, exist_ok=True)
        with shown("Fetching artifacts") as progress:
            store.get(path, target, progress=progress)


def _below(*parts: str | None) -> str:
    """A path below the repository's root, `` for the root itself; one that could lead elsewhere is refused."""
    path = "/".join(part for part in parts if part)
    if path.startswith("/"):
        raise BadPath(f"artifact path {path!r} begins with a slash", remedy="name it relative to the artifact root")
    return normal(path)


def _joined(root: str, inside: str) -> str:
    return f"{root}/{inside}" if root and inside else root or inside


def _target(dst_path: str | None) -> Path:
    if dst_path is None:
        return Path(create_tmp_dir())
    target = Path(dst_path).absolute()
    if not target.exists():
        raise MlflowException(f"make the directory first: {target} does not exist", RESOURCE_DOES_NOT_EXIST)
    if not target.is_dir():
        raise MlflowException(f"name a directory to fetch into: {target} is a file", INVALID_PARAMETER_VALUE)
    return target
