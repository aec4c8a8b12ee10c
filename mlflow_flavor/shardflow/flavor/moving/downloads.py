"""Artifacts that only MLflow can fetch: downloaded when the store reads them, one file at a time, and never kept."""

from __future__ import annotations

import contextlib
import io
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shardflow.flavor.moving.originals import Original, pread
from shardflow.flavor.owners import runs
from shardflow.layout import ReadAt
from shardflow.store.errors import SourceChanged, SourceUnusable, TargetUnusable
from shardflow.store.paths import normal
from shardflow.store.sources import Source

_LEFT = re.compile(r"shardflow-migrate-(?P<host>.+)-(?P<process>\d+)-[^-]+")


@dataclass(frozen=True, slots=True)
class InRepository:
    """Everything below the root of one of MLflow's artifact repositories."""

    repository: Any
    uri: str
    scratch: Path

    def files(self) -> Iterator[Original]:
        try:
            found = list(self._listed(None))
        except Exception as error:  # noqa: BLE001  # each kind of repository has errors of its own
            raise SourceUnusable(f"{self.uri} cannot be listed: {_line(error)}", remedy="check the rights") from None
        for path, size in found:
            # MLflow tells no date: what it logged once under a name is taken for what it was.
            yield Original(normal(path), size, "", 0.0, self._source(path, size))

    def _listed(self, directory: str | None) -> Iterator[tuple[str, int | None]]:
        for info in self.repository.list_artifacts(directory):
            if info.is_dir:
                yield from self._listed(info.path)
            else:
                yield info.path, info.file_size

    def _source(self, path: str, size: int | None) -> Callable[[str], Source]:
        return lambda target: DownloadedSource(target, self.repository, f"{self.uri}/{path}", path, size, self.scratch)


@dataclass(frozen=True, slots=True)
class DownloadedSource:
    """A file that is fetched when it is opened, and whose space is free again when it is closed."""

    path: str
    repository: Any
    name: str
    artifact: str
    size: int | None
    scratch: Path

    def open(self) -> io.RawIOBase:
        self._require_room()
        with tempfile.TemporaryDirectory(dir=self.scratch) as directory:
            try:
                found = self.repository.download_artifacts(self.artifact, dst_path=directory)
            except Exception as error:  # noqa: BLE001  # each kind of repository has errors of its own
                raise SourceUnusable(f"{self.name} cannot be fetched: {_line(error)}") from None
            return Path(found).open(
                "rb", buffering=0
            )  # the name goes with the directory, the content when it is closed

    def random_access(self, opened: io.RawIOBase, /) -> ReadAt:
        assert isinstance(opened, io.FileIO)
        return pread(opened)

    def check_unchanged(self, _: io.RawIOBase, read: int, /) -> None:
        if self.size is not None and read != self.size:
            raise SourceChanged(f"{self.name} was listed with {self.size} bytes and has {read}", remedy="run it again")

    def _require_room(self) -> None:
        free = shutil.disk_usage(self.scratch).free
        if self.size is not None and self.size > free:
            raise TargetUnusable(
                f"{self.name} has {self.size:,} bytes, and {self.scratch.parent} has room for {free:,}",
                remedy="name a directory with more room as --scratch (scratch=)",
            )


@contextlib.contextmanager
def scratch_directory(parent: Path | None) -> Iterator[Path]:
    """A directory for one run; those of runs that were killed on this machine go first."""
    home = Path(tempfile.gettempdir()) if parent is None else parent
    for left in home.glob("shardflow-migrate-*"):
        found = _LEFT.fullmatch(left.name)
        if found and found["host"] == platform.node() and not runs(int(found["process"])):
            shutil.rmtree(left, ignore_errors=True)
    try:
        made = tempfile.TemporaryDirectory(dir=home, prefix=f"shardflow-migrate-{platform.node()}-{os.getpid()}-")
    except OSError as error:
        raise TargetUnusable(f"{home} cannot be written: {error.strerror}", remedy="name another --scratch") from None
    with made as directory:
        yield Path(directory)


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0]
