"""One put: reads sources, finds what the store has already, encodes the rest, and makes the files visible.

The caller's thread reads and packs, in order, so that a run repeated after a crash builds the same packs; worker
threads name and encode chunks; other threads send packs and write manifests. Chunks of one file may come from packs
that other files began, and a file becomes visible as soon as all its packs have arrived.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import RawIOBase
from typing import Self

from blake3 import blake3

from shardflow import codec
from shardflow.dtype import DType
from shardflow.errors import ShardflowError
from shardflow.layout import Layout, inspect
from shardflow.store import hints
from shardflow.store.catalog import Catalog
from shardflow.store.commit import Committer, Pending
from shardflow.store.config import StoreConfig
from shardflow.store.cutting import plan
from shardflow.store.gear import Gear
from shardflow.store.journal import Journal
from shardflow.store.manifest import Manifest, decode_manifest
from shardflow.store.pack import pack_key
from shardflow.store.paths import key_of
from shardflow.store.progress import Progress
from shardflow.store.reading import BLOCK_BYTES, Block, Buffers, blocks, read_all, stream_blocks
from shardflow.store.sending import PackSender
from shardflow.store.sources import HEAD_BYTES, WRITTEN_LAST, EmptyDirectory, Source
from shardflow.transport import ByteBudget, Cancellation, ObjectMissing, Transport

CANDIDATES = 4
SURE_IT_IS_RAW, TRIED_WHEN_RAW = 4, 16  # after so many raw chunks, so many of each sixteen are tried still


@dataclass(frozen=True, slots=True)
class Examined:
    """A block's chunks: the row of those the store has, the encoding of those it has not."""

    block: Block
    chunks: tuple[tuple[bytes, int | codec.Encoded], ...]


class Writer:
    """The state of one put; use as a context manager, `finish` inside it."""

    def __init__(
        self,
        transport: Transport,
        config: StoreConfig,
        budget: ByteBudget,
        *,
        progress: Progress,
        cancel: Cancellation,
        existing: set[str] | None = None,
        replace: bool = True,
        learn: bool = True,
    ) -> None:
        settings = config.settings
        self._transport = transport.session(cancel=cancel, totals=progress.totals)
        self._settings = settings
        self._budget = budget
        self._progress = progress
        self._cancel = cancel
        self._existing = existing
        self._learn_from_store = learn
        self._gear = Gear(settings.cutting.minimum, settings.cutting.mean, settings.cutting.maximum)
        self._catalog = Catalog()
        self._journal = Journal(config.id)
        self._buffers = Buffers()
        cores = os.cpu_count() or 1
        self._depth = max(2, min(cores + 2, (budget.total - settings.pack_bytes) // (2 * BLOCK_BYTES)))
        self._reserved = settings.pack_bytes + (self._depth + 1) * BLOCK_BYTES
        self._workers = ThreadPoolExecutor(cores, thread_name_prefix="shardflow-encode")
        self._committer = Committer(
            self._transport, self._catalog, settings.gc_grace_seconds, existing, replace_files=replace
        )
        self._sender = PackSender(self._transport, self._catalog, self._journal, budget, settings.pack_bytes)
        self._pending: deque[Pending] = deque()
        self._used: set[int] = set()  # packs that the files of this put need; others' notes are not ours to settle
        self._learned: set[str] = set()
        self._present: dict[int, bool] = {}

    def __enter__(self) -> Self:
        if self._learn_from_store:
            for pack, entries in self._journal.unfinished():
                self._catalog.add_pack(pack, entries)
        self._budget.acquire(self._reserved, self._cancel)  # last: after a failure here nobody gives it back
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._cancel.cancel("the operation failed" if issubclass(kind, Exception) else "interrupted")
        self._workers.shutdown(wait=False, cancel_futures=True)
        self._committer.close()
        self._sender.close()
        self._budget.release(self._reserved)

    def add(self, source: Source | EmptyDirectory) -> None:
        """Store one source; it is visible at the latest when `finish` returns."""
        self._cancel.check()
        if isinstance(source, EmptyDirectory):
            self._add_directory(source)
            return
        if source.path.rsplit("/", 1)[-1] in WRITTEN_LAST:
            self._settle()
        with source.open() as file:
            if source.size is not None and source.size <= self._settings.inline_bytes:
                pending = self._inline(source, file)
            else:
                pending = self._chunked(source, file)
        self._pending.append(pending)
        self._commit_arrived()
        self._progress.files_done += 1

    def finish(self) -> None:
        """Wait until everything is in the store and visible."""
        self._settle()
        self._journal.settle(self._catalog.packs[number] for number in self._used)
        self._progress.files_unchanged = self._committer.unchanged

    def _add_directory(self, source: EmptyDirectory) -> None:
        if source.path:
            marker = Manifest(0, blake3().digest(), kind="directory")
            self._committer.commit([Pending(source.path, marker, array("I"))])

    def _inline(self, source: Source, file: RawIOBase) -> Pending:
        data = read_all(file, self._settings.inline_bytes + 1)
        source.check_unchanged(file, len(data))
        self._progress.add(len(data))
        return Pending(source.path, Manifest(len(data), blake3(data).digest(), inline=data), array("I"))

    def _chunked(self, source: Source, file: RawIOBase) -> Pending:
        layout, features = self._look(source, file)
        self._learn(source.path, features)
        digest, rows, size = blake3(), array("I"), 0
        for examined in self._examined(self._blocks(file, layout)):
            size += len(examined.block.data)
            for span, (chunk, known) in zip(examined.block.spans, examined.chunks, strict=True):
                rows.append(self._place(chunk, span.end - span.start, known))
            digest.update(examined.block.data)
            self._progress.add(len(examined.block.data))
            self._buffers.give(examined.block.buffer)
            self._commit_arrived()
        source.check_unchanged(file, size)
        manifest = Manifest(size, digest.digest(), layout=layout.kind, features=features)
        used = {self._catalog.pack_of(row) for row in rows}
        self._used |= used
        return Pending(source.path, manifest, rows, max(used & self._sender.own, default=-1))

    def _look(self, source: Source, file: RawIOBase) -> tuple[Layout, tuple[str, ...]]:
        """What is inside a source, before it is read from end to end; a long stream shows no more than its head."""
        read_at, size = source.random_access(file), source.size
        if size is None:
            return Layout("plain", (), None), hints.features_of_head(read_at(0, HEAD_BYTES), self._gear)
        layout = inspect(read_at, size)
        return layout, hints.features_of(read_at, size, self._gear, layout.fingerprint)

    def _blocks(self, file: RawIOBase, layout: Layout) -> Iterator[Block]:
        if not layout.segments:
            return stream_blocks(file, self._gear, self._buffers)
        runs = plan(layout, self._settings.chunk_bytes, self._settings.cutting.maximum)
        return blocks(file, runs, self._gear, self._buffers)

    def _examined(self, blocks: Iterable[Block]) -> Iterator[Examined]:
        """Blocks in order, while workers look at the next ones."""
        ahead: deque[Future[Examined]] = deque()
        for block in blocks:
            self._cancel.check()
            ahead.append(self._workers.submit(self._examine, block))
            if len(ahead) >= self._depth:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _examine(self, block: Block) -> Examined:
        chunks: list[tuple[bytes, int | codec.Encoded]] = []
        encoder = _BlockEncoder()
        for span in block.spans:
            data = block.data[span.start : span.end]
            chunk = blake3(data).digest()
            row = self._catalog.find(chunk)
            if row is not None and self._is_present(row):
                chunks.append((chunk, row))
            else:
                chunks.append((chunk, encoder.encode(data, span.dtype)))
        return Examined(block, tuple(chunks))

    def _place(self, chunk: bytes, size: int, known: int | codec.Encoded) -> int:
        if isinstance(known, int):
            self._progress.add(0, reused=size)
            return known
        # The same chunk may have been packed since a worker looked.
        row = self._catalog.find(chunk)
        if row is not None and self._is_present(row):
            self._progress.add(0, reused=size)
            return row
        return self._sender.add(chunk, size, known.codec, known.parts)

    def _is_present(self, row: int) -> bool:
        """Whether the pack of a chunk found through a hint or the journal is still there; asked once a pack."""
        number = self._catalog.pack_of(row)
        if number in self._sender.own:
            return True
        present = self._present.get(number)
        if present is None:
            try:
                self._transport.head(pack_key(self._catalog.packs[number]))
                present = True
            except ObjectMissing:
                present = False
                self._journal.settle([self._catalog.packs[number]])
            self._present[number] = present
        return present

    def _learn(self, path: str, features: tuple[str, ...]) -> None:
        """Take up the chunks of what is stored at this path now and of the files that look most alike."""
        if not self._learn_from_store:
            return
        alike = [similar.path for similar in hints.look_up(self._transport, features)][:CANDIDATES]
        may_exist = self._existing is None or key_of(path) in self._existing
        for candidate in [path, *alike] if may_exist else alike:
            if candidate not in self._learned:
                self._learned.add(candidate)
                try:
                    data = self._transport.read(key_of(candidate))
                    self._catalog.add_manifest(decode_manifest(data, candidate))
                except ShardflowError:
                    continue  # nothing there, or nothing usable: there is only less to save

    def _commit_arrived(self) -> None:
        """Commit, in order, the files whose own packs have all arrived."""
        below = self._sender.sent_below()
        ready: list[Pending] = []
        while self._pending and self._pending[0].last_pack < below:
            ready.append(self._pending.popleft())
        if ready:
            self._committer.commit(ready)

    def _settle(self) -> None:
        self._sender.drain()
        self._commit_arrived()
        self._committer.drain()
        self._progress.packs_sent = self._sender.packs_sent


class _BlockEncoder:
    """Encodes the chunks of one block, and tries fewer of them where nothing becomes smaller.

    A block starts afresh, whichever thread has it, so the same file is always encoded in the same way.
    """

    def __init__(self) -> None:
        self._raw_in_a_row = 0

    def encode(self, data: memoryview, dtype: DType) -> codec.Encoded:
        if self._raw_in_a_row % TRIED_WHEN_RAW >= SURE_IT_IS_RAW and dtype is DType.BYTES:
            encoded = codec.Encoded(codec.CodecId.RAW, (data,), data.nbytes)
        else:
            encoded = codec.encode(data, dtype)
        self._raw_in_a_row = self._raw_in_a_row + 1 if encoded.codec == codec.CodecId.RAW else 0
        return encoded
