"""Data that DVC tracks, as MLflow's datasets: `mlflow.log_input(mlflow.data.from_dvc("data/train.csv"))`.

A string names such data as `dvc:data/train.csv`, and that of another project or revision as
`dvc:data/train.csv?rev=v1&repo=URL`. MLflow takes that for a source, as in `from_pandas(table, source="dvc:...")`.

MLflow imports this while it is imported itself: nothing heavy may be imported here at the top. Others ask `datasets`.
"""

import tempfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from mlflow.data.dataset_source import DatasetSource
from mlflow.data.meta_dataset import MetaDataset

from shardflow.errors import ShardflowError

if TYPE_CHECKING:
    from shardflow.dvc.tracked import Tracked

SCHEME = "dvc"


class BadAddress(ShardflowError):
    """A `dvc:` address that names nothing."""


class DvcDatasetSource(DatasetSource):  # type: ignore[misc]  # mlflow is not typed
    """Where a dataset is: a path of a DVC project at a commit, and the md5 that it had."""

    def __init__(self, data: "Tracked") -> None:
        self.data = data

    @staticmethod
    def _get_source_type() -> str:
        return SCHEME

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, str) and raw_source.startswith(f"{SCHEME}:")

    @classmethod
    def _resolve(cls, raw_source: str) -> "DvcDatasetSource":
        from shardflow.dvc.tracked import tracked  # noqa: PLC0415  # it needs DVC, which is heavy

        path, repo, rev = parsed(raw_source)
        return cls(tracked(path, repo=repo, rev=rev))

    @property
    def uri(self) -> str:
        """The address of exactly this version."""
        query = urlencode({"rev": self.data.rev or "", "repo": self.data.repo}, safe="/:@")
        return f"{SCHEME}:{quote(self.data.path_in_repo)}?{query}"

    def load(self, dst_path: str | None = None) -> str:
        """The data as it was, in the directory `dst_path` or a new one; returns the path of the file or directory."""
        from shardflow.dvc.tracked import fetched  # noqa: PLC0415  # it needs DVC, which is heavy

        directory = Path(tempfile.mkdtemp(prefix="shardflow-dvc-") if dst_path is None else dst_path)
        directory.mkdir(parents=True, exist_ok=True)
        return str(fetched(self.data, directory / PurePosixPath(self.data.path).name))

    def to_dict(self) -> dict[str, Any]:
        return {"uri": self.uri, **self.data.as_dict()}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> "DvcDatasetSource":
        from shardflow.dvc.tracked import tracked_from  # noqa: PLC0415  # it needs DVC, which is heavy

        return cls(tracked_from(source_dict))


# MLflow wants the class itself as the annotation, so this module does without annotations as strings.
def from_dvc(
    path: str | Path,
    *,
    repo: str | None = None,
    rev: str | None = None,
    name: str | None = None,
    digest: str | None = None,
) -> MetaDataset:
    """A dataset for `mlflow.log_input`: a path that DVC tracks here, or in another project or revision."""
    from shardflow.dvc.tracked import tracked  # noqa: PLC0415  # it needs DVC, which is heavy

    data = tracked(path, repo=repo, rev=rev)
    return MetaDataset(DvcDatasetSource(data), name=name or data.path, digest=digest or data.md5)


def parsed(address: str) -> tuple[str, str | None, str | None]:
    """The path, project and revision that a `dvc:` address names."""
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query))
    path = unquote(parts.netloc + parts.path)
    if parts.fragment:
        raise BadAddress(f"{address!r} names no part of data", remedy="write a # in a name as %23")
    if parts.scheme != SCHEME or not path or set(query) - {"repo", "rev"}:
        raise BadAddress(
            f"{address!r} does not name data of DVC", remedy="write it as dvc:PATH, or dvc:PATH?rev=REV&repo=URL"
        )
    return path, query.get("repo"), query.get("rev")
