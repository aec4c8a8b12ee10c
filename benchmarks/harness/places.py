"""Where benchmarks store things: a working directory that is always cleaned up, local stores and S3 prefixes."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import shardflow
from harness import options
from harness.figures import size
from shardflow.loops import keeping
from shardflow.store.config import Settings

if TYPE_CHECKING:
    from harness.servers import ObjectServer


class Place(Protocol):
    """Something that can hold stores, one after the other."""

    @property
    def name(self) -> str: ...
    @property
    def env(self) -> Mapping[str, str]: ...
    def new_store(self, settings: Settings | None = None) -> str: ...
    def clear(self) -> None: ...


COMPILED = {keeping.VARIABLE: str(keeping.directory())}
"""Compiled loops are made once on a machine: what is forgotten between runs does not take them along."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """A directory for data, and the environment for children that keep their state in it."""

    directory: Path

    @property
    def env(self) -> dict[str, str]:
        own = {"SHARDFLOW_STATE": str(self.directory / "state"), "SHARDFLOW_CACHE": str(self.directory / "cache")}
        return {**os.environ, **own, **COMPILED}

    def path(self, name: str) -> Path:
        return self.directory / name

    def forget(self) -> None:
        """Drop what Shardflow noted on this machine, as if it had never run here."""
        for name in ("state", "cache"):
            shutil.rmtree(self.directory / name, ignore_errors=True)


@contextmanager
def workspace(needed: int, parent: Path | None = None) -> Iterator[Workspace]:
    """A fresh directory with room for `needed` bytes; gone afterwards, also after Ctrl-C or a polite kill."""
    where = parent or Path(tempfile.gettempdir())
    free = shutil.disk_usage(where).free
    if free < needed:
        raise SystemExit(f"this needs {size(needed)} of disk, and {size(free)} are free; name a place with --directory")
    directory = Path(tempfile.mkdtemp(prefix="shardflow-bench-", dir=parent))
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield Workspace(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def settle() -> None:
    """Let what the last run wrote reach the disk, or the next one would have to wait for it.

    That waits for all that anybody wrote on this machine, so a run that measures nothing leaves it out.
    """
    if options.is_measured():
        os.sync()


@dataclass(slots=True)
class LocalPlace:
    """Stores on the local disk."""

    space: Workspace
    name: str = "local disk"
    root: Path = field(init=False)
    _numbers: Iterator[int] = field(default_factory=count, init=False)

    def __post_init__(self) -> None:
        self.root = self.space.path("stores")

    @property
    def env(self) -> Mapping[str, str]:
        return self.space.env

    def new_store(self, settings: Settings | None = None) -> str:
        url = f"shardflow://file{self.root}/{next(self._numbers)}"
        shardflow.init(url, settings)
        return url

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.space.forget()


@dataclass(slots=True)
class S3Place:
    """Stores in one bucket of an S3 server, as children reach it at `env`'s endpoint (which may be a proxy's)."""

    space: Workspace
    server: ObjectServer
    bucket: str = "benchmarks"
    _numbers: Iterator[int] = field(default_factory=count, init=False)

    @property
    def name(self) -> str:
        return f"S3 ({self.server.name})"

    @property
    def env(self) -> Mapping[str, str]:
        return {**self.space.env, **self.server.seen.env, "AWS_DEFAULT_REGION": self.server.seen.env["AWS_REGION"]}

    def new_store(self, settings: Settings | None = None) -> str:
        url = f"shardflow://s3/{self.bucket}/{next(self._numbers)}"
        shardflow.init(url, settings, options=self.server.direct.options)
        return url

    def clear(self) -> None:
        self.server.empty(self.bucket)
        self.space.forget()


def stored_bytes(root: Path) -> int:
    """Everything that lies below a store's root on the local disk."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _exit(number: int, _: object) -> None:
    raise SystemExit(128 + number)
