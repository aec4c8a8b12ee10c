"""A cache of decoded chunks on this machine, for stores that are far away; bounded, and verified on every use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from threading import Lock

from blake3 import blake3

from shardflow.local_state import bytes_from, cache_directory
from shardflow.transport import renewed_in_child

DEFAULT_LIMIT = 10 << 30
SIZE_VARIABLE = "SHARDFLOW_CACHE_BYTES"
MEASURED_TIMES = 16  # while one process fills it: each knows only what it put itself


class ChunkCache:
    """Chunks by name, one file each; the least recently used go when the limit is passed.

    A cache that cannot be written is no error: reads then come from the store.
    """

    def __init__(self, directory: Path | None = None, limit: int | None = None) -> None:
        self.directory = (directory or cache_directory()) / "chunks"
        self.limit = bytes_from(SIZE_VARIABLE, DEFAULT_LIMIT) if limit is None else limit
        self._held = 0
        self._unmeasured = self.limit  # bytes that were put since all there is was measured
        self._make_lock()
        renewed_in_child(self, ChunkCache._make_lock)

    def _make_lock(self) -> None:
        self._lock = Lock()

    def get(self, chunk: bytes) -> bytes | None:
        """A chunk's bytes, or None; bytes that no longer match their name are dropped."""
        path = self._path(chunk)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if blake3(data).digest() != chunk:
            self._drop(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return data

    def put(self, chunk: bytes, data: memoryview) -> None:
        """Keep a verified chunk, if it fits the limit at all."""
        if len(data) > self.limit:
            return
        path = self._path(chunk)
        partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(data)
            partial.replace(path)
        except OSError:
            self._drop(partial)
            return
        with self._lock:
            self._held += len(data)
            self._unmeasured += len(data)
            if self._unmeasured > self.limit // MEASURED_TIMES:
                self._held, self._unmeasured = self._measure(), 0
            if self._held > self.limit:
                self._shrink()

    def _shrink(self) -> None:
        """Remove the least recently used until a tenth of the limit is free again."""
        files = sorted(self._files(), key=lambda found: found[1].st_mtime)
        held = sum(status.st_size for _, status in files)
        for path, status in files:
            if held <= self.limit * 9 // 10:
                break
            self._drop(path)
            held -= status.st_size
        self._held = held

    def _measure(self) -> int:
        return sum(status.st_size for _, status in self._files())

    def _files(self) -> list[tuple[Path, os.stat_result]]:
        found = []
        for path in self.directory.glob("*/*"):
            with contextlib.suppress(OSError):
                found.append((path, path.stat()))
        return found

    def _path(self, chunk: bytes) -> Path:
        name = chunk.hex()
        return self.directory / name[:2] / name

    @staticmethod
    def _drop(path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink()
