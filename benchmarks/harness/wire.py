"""What went to and from a store, also in a run that was killed and could not tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.places import LocalPlace, Place, S3Place, stored_bytes
from shardflow.store.store import Store

if TYPE_CHECKING:
    from faults.proxy import FaultProxy
    from shardflow.store.manifest import Manifest

Results = Sequence[dict[str, Any]]  # what runs that were not killed said of themselves
Objects = dict[str, int]  # sizes by key


class Traffic(Protocol):
    """Counts for one place, from one `reset` to the next."""

    @property
    def place(self) -> Place: ...
    def reset(self) -> None: ...
    def interrupted(self) -> None:
        """A run was killed just now."""

    def sent(self, results: Results) -> int: ...
    def received(self, results: Results) -> int: ...
    def finished_objects(self, url: str) -> Objects: ...
    def written_again(self, url: str, done: Objects) -> int:
        """Bytes of those objects that have been written once more since they were listed."""

    def manifest(self, url: str) -> Manifest: ...


@dataclass(slots=True)
class DiskTraffic:
    """The local disk: a killed put has sent what it left there; what a killed get had read, nobody knows."""

    place: LocalPlace
    _left_behind: int = 0
    _written: dict[str, tuple[int, int]] = field(default_factory=dict)

    def reset(self) -> None:
        self._left_behind = 0

    def interrupted(self) -> None:
        self._left_behind = sum(stored_bytes(store) - _config_bytes(store) for store in self.place.root.iterdir())

    def sent(self, results: Results) -> int:
        return self._left_behind + sum(int(result["bytes_sent"]) for result in results)

    def received(self, results: Results) -> int:
        return sum(int(result["bytes_received"]) for result in results)

    def finished_objects(self, url: str) -> Objects:
        root = _root(url)
        files = [path for part in ("packs", "tree", "hints") for path in (root / part).rglob("*") if path.is_file()]
        self._written = {str(path): _written(path) for path in files}
        return {str(path): path.stat().st_size for path in files}

    def written_again(self, url: str, done: Objects) -> int:  # noqa: ARG002  # their names are whole paths
        return sum(size for path, size in done.items() if _written(Path(path)) != self._written[path])

    def manifest(self, url: str) -> Manifest:
        store, path = Store.find(url)
        return store.manifest(path)


@dataclass(slots=True)
class ProxyTraffic:
    """An S3 server behind a proxy that sees every byte."""

    place: S3Place
    proxy: FaultProxy
    _before: int = 0

    def reset(self) -> None:
        self.proxy.forget_traffic()

    def interrupted(self) -> None:
        pass

    def sent(self, results: Results) -> int:  # noqa: ARG002  # the proxy has counted all runs
        return self.proxy.traffic.sent("PUT")

    def received(self, results: Results) -> int:  # noqa: ARG002
        return self.proxy.traffic.received("GET", "/packs/")

    def finished_objects(self, url: str) -> Objects:
        prefix = url.removeprefix(f"shardflow://s3/{self.place.bucket}/").removesuffix("/file")
        objects = self.place.server.keys(self.place.bucket)
        self._before = len(self.proxy.traffic.exchanges)
        own = tuple(f"{prefix}/{part}/" for part in ("packs", "tree", "hints"))
        return {key: size for key, size in objects.items() if key.startswith(own)}

    def written_again(self, url: str, done: Objects) -> int:  # noqa: ARG002  # keys are unique in the bucket
        paths = {f"/{self.place.bucket}/{key}" for key in done}
        since = self.proxy.traffic.exchanges[self._before :]
        return sum(exchange.sent for exchange in since if exchange.method == "PUT" and exchange.path in paths)

    def manifest(self, url: str) -> Manifest:
        store, path = Store.find(url, self.place.server.direct.options)
        return store.manifest(path)


def _root(url: str) -> Path:
    return Path(url.removeprefix("shardflow://file").removesuffix("/file"))


def _config_bytes(store: Path) -> int:
    return (store / "shardflow.json").stat().st_size


def _written(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns
