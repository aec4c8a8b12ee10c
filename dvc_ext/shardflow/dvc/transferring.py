"""Files between a store and this machine, those of all threads together: see `gathering`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

from shardflow.dvc.gathering import Gathered, Turn
from shardflow.dvc.lacking import lacking_in
from shardflow.errors import Cancelled, ShardflowError
from shardflow.store.errors import PackMissing
from shardflow.store.manifest import Manifest
from shardflow.store.placing import told
from shardflow.store.progress import Progress
from shardflow.store.putting import write_sources
from shardflow.store.restore import Restorer
from shardflow.store.small import is_small, put_small
from shardflow.store.sources import Source
from shardflow.store.store import Store
from shardflow.store.wishes import Wishes
from shardflow.transport import AccessDenied, BucketMissing, Cancellation, NoSpace, Unreachable

Tell = Callable[[int], None]
"""Takes how many bytes of a file are done."""

ANYONES = (AccessDenied, BucketMissing, Cancelled, NoSpace, Unreachable)
"""Failures that are no file's own: the next would meet them as well."""


class Request(Protocol):
    """A file on its way."""

    @property
    def size(self) -> int: ...
    @property
    def tell(self) -> Tell: ...


R = TypeVar("R", bound=Request)


@dataclass(frozen=True, slots=True)
class Sending:
    """A file to store under a name that says what is in it."""

    source: Source
    tell: Tell

    @property
    def size(self) -> int:
        return self.source.size or 0


@dataclass(frozen=True, slots=True)
class Fetching:
    """A stored file to write to disk."""

    path: str
    manifest: Manifest
    target: Path
    tell: Tell

    @property
    def size(self) -> int:
        return self.manifest.size


class Transfers:
    """What moves between one store and this process: one writer and one reader at a time, for all threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sends: Gathered[Sending] = Gathered(lambda turns: _done_together(turns, self._send))
        self._fetches: Gathered[Fetching] = Gathered(lambda turns: _done_together(turns, self._fetch))

    def send(self, source: Source, tell: Tell) -> None:
        """Store a file; it is visible when this returns. A small one is a single object, and needs no turn."""
        if is_small(self._store.config, source):
            (failure,) = put_small(self._store.transport, self._store.config, [source])
            if failure is not None:
                raise failure
            tell(source.size or 0)
        else:
            self._sends.do(Sending(source, tell))
        lacking_in(self._store).forget(source.path)

    def fetch(self, path: str, target: Path, tell: Tell) -> None:
        """Write a file, verified; a small one is in its manifest, and needs no turn."""
        manifest = self._store.manifest(path)
        if written_inline(manifest, target):
            tell(manifest.size)
            return
        try:
            self._fetches.do(Fetching(path, manifest, target, tell))
        except PackMissing:
            # It may have been repacked meanwhile: then its manifest names the new places by now.
            self._fetches.do(Fetching(path, self._store.manifest(path), target, tell))

    def _send(self, sendings: list[Sending]) -> None:
        store, none = self._store, set[str]()  # DVC has looked which of them are there already
        sources = [sending.source for sending in sendings]
        progress = _progress(sendings)
        write_sources(store.transport, store.config, store.budget, sources, none, Wishes(), progress, None)

    def _fetch(self, fetchings: list[Fetching]) -> None:
        with Restorer(self._store.transport, self._store.budget, _progress(fetchings), Cancellation()) as restorer:
            for fetching in fetchings:
                restorer.restore(fetching.path, fetching.manifest, fetching.target)
            restorer.finish()


_transfers: dict[Store, Transfers] = {}
_lock = Lock()


def transfers_of(store: Store) -> Transfers:
    """Those of this process, whichever of DVC's file systems asks."""
    with _lock:
        return _transfers.setdefault(store, Transfers(store))


def written_inline(manifest: Manifest, target: Path) -> bool:
    """Write a small file, which is in its manifest, whole or not at all; False if it is none."""
    if manifest.inline is None:
        return False
    with told(target):
        try:
            target.write_bytes(manifest.inline)
        except OSError:
            target.unlink(missing_ok=True)
            raise
    return True


def _done_together(turns: list[Turn[R]], work: Callable[[list[R]], None]) -> None:
    """All at once; where one of them fails each by itself, so that the others do not fail with it."""
    try:
        work([turn.request for turn in turns])
    except ShardflowError as error:
        if len(turns) == 1 or isinstance(error, ANYONES):
            raise
        for turn in turns:
            turn.error = _failure(work, turn.request)
    for turn in turns:
        if turn.error is None:
            turn.request.tell(turn.request.size)


def _failure(work: Callable[[list[R]], None], request: R) -> ShardflowError | None:
    try:
        work([request])
    except ShardflowError as error:
        return error
    return None


class _Told(Progress):
    """Counters of one file, which its own progress bar follows."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def add(self, done: int, *, reused: int = 0, on_bases: int = 0) -> None:
        super().add(done, reused=reused, on_bases=on_bases)
        self._tell(self.bytes_done)


def _progress(requests: list[Sending] | list[Fetching]) -> Progress:
    return _Told(requests[0].tell) if len(requests) == 1 else Progress()
