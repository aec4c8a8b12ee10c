"""Get: fetches stored files to disk, verified, several ranges and files at once within the byte budget."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Self

from blake3 import blake3

from shardflow.store.chunks import KeptChunks, PlainChunks
from shardflow.store.errors import PathTaken
from shardflow.store.fetch import Range, ranges
from shardflow.store.manifest import Manifest
from shardflow.store.pack import MAX_CHUNK_BYTES
from shardflow.store.parallel import readers
from shardflow.store.placing import PartialFile, told
from shardflow.store.progress import Progress
from shardflow.transport import ByteBudget, Cancellation, Transport

FILES_AT_ONCE = 16
RANGES_AT_ONCE = 8  # for each thread
MOST_LINKS = 40  # as Linux follows


class Restorer:
    """The state of one get; `restore` each file in turn, then `finish`."""

    def __init__(self, transport: Transport, budget: ByteBudget, progress: Progress, cancel: Cancellation) -> None:
        self._transport = transport.session(cancel=cancel, totals=progress.totals)
        self._budget = budget
        self._progress = progress
        self._cancel = cancel
        threads = readers(transport.url)
        self._most_waiting = RANGES_AT_ONCE * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="shardflow-get")
        self._kept = KeptChunks()
        self._open: deque[tuple[PartialFile, deque[Future[None]]]] = deque()
        self._is_for_devices = cache(_is_for_devices)  # once for each directory of a get, not for each file

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._cancel.cancel("the operation failed" if issubclass(kind, Exception) else "interrupted")
        if kind is None or issubclass(kind, Exception):
            self._end()
        else:
            # Ctrl-C does not wait for what is under way; but a later get in this process needs the files let go.
            Thread(target=self._end, name="shardflow-end", daemon=True).start()

    def _end(self) -> None:
        # Only when the threads have ended may the files be closed under them.
        self._pool.shutdown(wait=True, cancel_futures=True)
        for unfinished, _work in self._open:
            unfinished.close()

    def restore(self, name: str, manifest: Manifest, target: Path) -> None:
        """Start writing one file; a target that holds this content already is left as it is."""
        self._cancel.check()
        with told(target):
            _check_replaceable(target, name, self._is_for_devices)
        if same_content(manifest, target):
            self._progress.add(manifest.size, reused=manifest.size)
            self._progress.files_unchanged += 1
            self._progress.files_done += 1
            return
        partial = PartialFile(name, manifest, target)
        work: deque[Future[None]] = deque()
        self._open.append((partial, work))
        if manifest.inline is not None:
            partial.write_at(0, memoryview(manifest.inline))
            self._progress.add(manifest.size)
        chunks = PlainChunks(self._transport, manifest.table, name, self._kept)
        for part in ranges(manifest.table, partial.rows):
            if len(work) >= self._most_waiting:
                work.popleft().result()
            work.append(self._pool.submit(self._fetch, partial, chunks, part))
        while len(self._open) > FILES_AT_ONCE:
            self._finish_oldest()

    def finish(self) -> None:
        while self._open:
            self._finish_oldest()

    def _fetch(self, partial: PartialFile, chunks: PlainChunks, wanted: Range) -> None:
        self._cancel.check()
        parts = [wanted]
        if partial.may_have_some:
            missing = [row for row in wanted.rows if not self._taken_from_earlier(partial, row)]
            parts = list(ranges(partial.manifest.table, missing)) if len(missing) < len(wanted.rows) else parts
        for part in parts:
            with self._budget.hold(part.length + MAX_CHUNK_BYTES + chunks.work_bytes(part.rows), self._cancel):
                for row, data in chunks.in_range(part):
                    partial.write(row, data)
                    self._progress.add(partial.bytes_of(row))

    def _taken_from_earlier(self, partial: PartialFile, row: int) -> bool:
        taken = partial.take_from_earlier(row)
        if taken:
            self._progress.add(partial.bytes_of(row), reused=partial.bytes_of(row))
        return taken

    def _finish_oldest(self) -> None:
        partial, work = self._open[0]
        for fetching in work:
            fetching.result()
        partial.finish()
        self._open.popleft()
        self._progress.files_done += 1


def _check_replaceable(target: Path, name: str, is_for_devices: Callable[[Path], bool]) -> None:
    if target.is_dir():
        raise PathTaken(f"{target} is a directory, and {name} is a file", remedy="name another target")
    if target.exists() and not target.is_file():
        raise PathTaken(f"{target} is a device or a pipe, and would be replaced", remedy="name another target")
    if any(is_for_devices(each.parent) for each in _with_links(target)):
        raise PathTaken(
            f"{target} is where the system keeps devices, and what programs have open",
            remedy="name another target; 'shardflow get URL -' writes to standard output",
        )


def _with_links(target: Path) -> Iterator[Path]:
    """A name, and what it leads to as a link, step by step."""
    yield target
    for _ in range(MOST_LINKS):
        if not target.is_symlink():
            return
        target = target.parent / target.readlink()
        yield target


def _is_for_devices(directory: Path) -> bool:
    """Whether it is /dev or anywhere in /proc; /dev/shm and the like hold files."""
    real = os.path.realpath(directory)
    return real in ("/dev", "/proc") or real.startswith("/proc/")


def same_content(manifest: Manifest, target: Path) -> bool:
    """Whether a file holds exactly this content already."""
    try:
        if not target.is_file() or target.stat().st_size != manifest.size:
            return False
        digest = blake3(max_threads=blake3.AUTO)
        if manifest.size:
            digest.update_mmap(target)
        return digest.digest() == manifest.digest
    except OSError:
        return False
