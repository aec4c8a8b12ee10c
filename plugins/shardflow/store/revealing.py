"""Writes the manifests that make files visible, and then their hints.

Far away several requests are under way at a time. On a disk, what has become ready while the last manifests were
written goes in together: the first file of a put does not wait for the second, and ten thousand small ones force the
disk a few dozen times.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Condition

from shardflow.errors import ShardflowError
from shardflow.store.chunks import too_heavy
from shardflow.store.errors import PathTaken
from shardflow.store.hints import hint_objects
from shardflow.store.manifest import Manifest, encode_manifest
from shardflow.store.manifest_at import manifest_at
from shardflow.store.parallel import in_parallel, requesters
from shardflow.store.paths import key_of, marker_of
from shardflow.transport import AlreadyThere, NewObject, ObjectMissing, Transport

PARALLEL_WRITES = 16
WAITING_WRITES = 64
ROWS_TOGETHER = 1 << 17
"""Chunks of the manifests that are written together: some 6 MB."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A file of which all is in the store but the manifest."""

    path: str
    manifest: Manifest
    checked: float  # when its packs were seen last

    @property
    def key(self) -> str:
        return marker_of(self.path) if self.manifest.kind == "directory" else key_of(self.path)


class Revealer:
    """The manifests of one operation; what fails is raised by whatever is called next."""

    def __init__(
        self,
        transport: Transport,
        pool: ThreadPoolExecutor,
        existing: set[str] | None,
        look_again: Callable[[Ready], None],
        *,
        replace_files: bool,
    ) -> None:
        """`existing` are those of the keys that there are, if known; `look_again` is called before a file is shown."""
        self._transport = transport
        self._pool = pool
        self._existing = existing
        self._look_again = look_again
        self._replace = replace_files
        self._together = transport.together
        self._writers = PARALLEL_WRITES if self._together == 1 else 1
        self._waiting: deque[Ready] = deque()
        self._at_work = 0
        self._failure: BaseException | None = None
        self._changed = Condition()
        self.unchanged = 0
        self.written = 0

    def reveal(self, ready: Ready) -> None:
        """Have a manifest written soon; waits while many are."""
        most = max(WAITING_WRITES, 2 * self._together)
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < most or self._failure)
            self._check()
            self._waiting.append(ready)
            if self._at_work == self._writers:
                return
            self._at_work += 1
        self._pool.submit(self._work_off)

    def drain(self) -> None:
        """Wait until every manifest is written."""
        with self._changed:
            self._changed.wait_for(lambda: not self._at_work)
            self._check()

    def close(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._waiting.clear()

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work_off(self) -> None:
        while batch := self._next():
            try:
                written = self._write(batch)
            except BaseException as error:  # noqa: BLE001  # raised where the next one is handed over
                with self._changed:
                    self._failure = self._failure or error
                    self._waiting.clear()
            else:
                with self._changed:
                    self.written += written
                    self.unchanged += len(batch) - written

    def _next(self) -> list[Ready]:
        batch: list[Ready] = []
        rows = 0
        with self._changed:
            while self._waiting and len(batch) < self._together and rows < ROWS_TOGETHER:
                batch.append(self._waiting.popleft())
                rows += len(batch[-1].manifest.table)
            self._at_work -= not batch
            self._changed.notify_all()
        return batch

    def _write(self, batch: list[Ready]) -> int:
        """How many of them were not there in the same form."""
        new: list[tuple[Ready, NewObject]] = []
        for ready in batch:
            self._look_again(ready)
            known = self._existing is None or ready.key in self._existing
            if known and self._same_is_there(ready):
                self._restore_hints(ready)
            else:
                absent = not self._replace and ready.manifest.kind == "file"
                new.append((ready, NewObject(ready.key, memoryview(encode_manifest(ready.manifest)), absent)))
        failures = self._transport.write_all([each for _, each in new])
        written = [ready for (ready, _), failure in zip(new, failures, strict=True) if self._is_written(ready, failure)]
        self._write_hints(written)
        return len(written)

    def _is_written(self, ready: Ready, failure: ShardflowError | None) -> bool:
        """False where another writer had the same file there first; raises what else went wrong."""
        if failure is None:
            return True
        if not isinstance(failure, AlreadyThere):
            raise failure
        if self._same_is_there(ready):
            return False
        raise PathTaken(f"{ready.path} is stored already, with other content", remedy="choose another path") from None

    def _same_is_there(self, ready: Ready) -> bool:
        """Whether the path already has this content, to be read out of packs that were just seen to exist."""
        try:
            there = manifest_at(self._transport, ready.key, ready.path)
        except (ObjectMissing, ShardflowError):
            return False
        packs = set(ready.manifest.table.packs)
        same = there.digest == ready.manifest.digest and set(there.table.packs) <= packs
        return same and not too_heavy(there.table)

    def _restore_hints(self, ready: Ready) -> None:
        """A writer that died after its manifest left no hints."""
        first = next(hint_objects(ready.path, ready.manifest), None)
        if first is None:
            return
        try:
            self._transport.head(first[0])
        except ObjectMissing:
            self._write_hints([ready])

    def _write_hints(self, files: Sequence[Ready]) -> None:
        hints = [
            NewObject(key, memoryview(data))
            for ready in files
            for key, data in hint_objects(ready.path, ready.manifest)
        ]
        parts = [hints[start : start + self._together] for start in range(0, len(hints), self._together)]
        threads = min(len(parts), requesters(self._transport.url, len(parts)))
        for failures in in_parallel(self._transport.write_all, parts, threads=max(1, threads)):
            if any(failures):
                return  # only a later writer's savings depend on them
