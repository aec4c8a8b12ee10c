"""Copies one version into a store, a gigabyte or a file at a time, and reads back what arrived."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from blake3 import blake3
from typing_extensions import Buffer

from shardflow.errors import CorruptData
from shardflow.flavor.moving.originals import Original, below
from shardflow.flavor.moving.records import Record
from shardflow.flavor.moving.versions import RECORDS, Version
from shardflow.layout import ReadAt
from shardflow.store.errors import PathMissing, PathTaken, SourceUnusable
from shardflow.store.progress import Progress
from shardflow.store.putting import put_sources
from shardflow.store.sources import EmptyDirectory, Source
from shardflow.store.store import Store
from shardflow.transport import Cancellation

BATCH_BYTES = 1 << 30
READ_BYTES = 16 << 20


class CopyDiffers(CorruptData):
    """What was read back from the store is not what was read from the source."""


@dataclass(slots=True)
class MigrationProgress:
    """How far a migration has come: which of the versions, and how much of that one."""

    versions_total: int = 0
    versions_done: int = 0
    doing: str = ""
    bytes_total: int = 0
    bytes_before: int = 0  # done with before what is being put now
    comparing: str = ""  # the file that is being read back
    put: Progress = field(default_factory=Progress)

    @property
    def bytes_done(self) -> int:
        return self.bytes_before + self.put.bytes_done

    def begin(self, doing: str, total: int) -> None:
        self.doing, self.bytes_total, self.bytes_before, self.put = doing, total, 0, Progress()
        self.comparing = ""


@dataclass(frozen=True, slots=True)
class Copied:
    """What copying a version came to."""

    files: int
    bytes: int
    sent: int  # over the wire, by this run
    fresh: bool  # whether anything had to be copied


class Hashed:
    """A source that keeps the digest of what was read from it."""

    def __init__(self, inner: Source) -> None:
        self.inner = inner
        self.digest = ""
        self.read = 0

    @property
    def path(self) -> str:
        return self.inner.path

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def size(self) -> int | None:
        return self.inner.size

    def open(self) -> io.RawIOBase:
        return _Hashing(self.inner.open())

    def random_access(self, opened: io.RawIOBase, /) -> ReadAt:
        assert isinstance(opened, _Hashing)
        return self.inner.random_access(opened.inner)

    def check_unchanged(self, opened: io.RawIOBase, read: int, /) -> None:
        assert isinstance(opened, _Hashing)
        self.inner.check_unchanged(opened.inner, read)
        self.digest, self.read = opened.digest.hexdigest(), read


def copy_version(
    store: Store,
    path: str,
    version: Version,
    record: Record,
    progress: MigrationProgress,
    cancel: Cancellation,
    *,
    reread: bool = False,
) -> Copied:
    """Bring all files of a version to a path of the store, those left out that an earlier run brought there."""
    originals = version.files()
    if not originals:
        raise SourceUnusable(f"{version.uri} has no files", remedy="see whether they were deleted")
    stored = stored_files(store, path)
    _require_own(store, path, originals, stored)
    missing = [original for original in originals if not record.has(original, stored)]
    progress.begin(version.name, sum(original.size or 0 for original in missing))
    sent = 0
    for batch in _batches(missing):
        started = time.monotonic()
        sent += _copy(store, path, batch, record, progress, cancel, reread=reread)
        record.seconds += time.monotonic() - started
        record.save()
    files = [original for original in originals if original.name in record.files]
    fresh = any(original.name in record.files for original in missing)
    return Copied(len(files), sum(record.files[original.name].size for original in files), sent, fresh)


def stored_files(store: Store, path: str) -> dict[str, str]:
    """The digests of the files at or below a path."""
    try:
        entries = list(store.ls(path, recursive=True, details=True))
    except PathMissing:
        return {}
    return {
        name: entry.digest or ""
        for entry in entries
        if entry.kind == "file" and not (name := entry.path.removeprefix(path).strip("/")).startswith(f"{RECORDS}/")
    }


def _require_own(store: Store, path: str, originals: Sequence[Original], stored: dict[str, str]) -> None:
    foreign = sorted(stored.keys() - {original.name for original in originals})
    if foreign:
        raise PathTaken(
            f"{store.url.joined(below(path, foreign[0]))} is in the store, and no file of the version that is to come "
            "there",
            remedy="remove it with 'shardflow rm', or move to another path",
        )


def _copy(
    store: Store,
    path: str,
    batch: Sequence[Original],
    record: Record,
    progress: MigrationProgress,
    cancel: Cancellation,
    *,
    reread: bool,
) -> int:
    made = [(original, original.source(below(path, original.name))) for original in batch]
    sources = [source if isinstance(source, EmptyDirectory) else Hashed(source) for _, source in made]
    progress.put = Progress()
    put_sources(store, sources, path, progress=progress.put, cancel=cancel)
    sent = progress.put.totals.bytes_sent
    for original, source in zip(batch, sources, strict=True):
        if isinstance(source, Hashed):
            progress.comparing = source.name
            _compare(store, source, cancel, reread=reread)
            record.note(original, source.read, source.digest)
    progress.comparing = ""
    progress.bytes_before, progress.put = progress.bytes_done, Progress()
    return sent


def _compare(store: Store, source: Hashed, cancel: Cancellation, *, reread: bool) -> None:
    """Read the stored file, and with `reread` the original once more."""
    with store.open(source.path) as file:
        digests = [digest_of(file, cancel)]
    if reread:
        with source.inner.open() as again:
            digests.append(digest_of(again, cancel))
    if any(digest != source.digest for digest in digests):
        what = (
            "the source gives other bytes each time" if digests[0] == source.digest else "the store gives back others"
        )
        raise CopyDiffers(
            f"{source.name} was read with digest {source.digest[:16]}, and {what}",
            remedy="run it again, and 'shardflow fsck --read-data' if it comes again",
        )


def digest_of(opened: io.RawIOBase, cancel: Cancellation) -> str:
    """BLAKE3 of all that can be read."""
    digest, memory = blake3(max_threads=blake3.AUTO), memoryview(bytearray(READ_BYTES))
    while count := opened.readinto(memory):
        cancel.check()
        digest.update(memory[:count])
    return digest.hexdigest()


def _batches(originals: Sequence[Original]) -> Iterator[list[Original]]:
    batch: list[Original] = []
    total = 0
    for original in originals:
        batch.append(original)
        total += original.size or 0
        if total >= BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


class _Hashing(io.RawIOBase):
    """Reads on behalf of another, and hashes what comes by."""

    def __init__(self, inner: io.RawIOBase) -> None:
        self.inner = inner
        self.digest = blake3()

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        view = memoryview(target).cast("B")
        count = self.inner.readinto(view) or 0
        self.digest.update(view[:count])
        return count

    def close(self) -> None:
        self.inner.close()
        super().close()
