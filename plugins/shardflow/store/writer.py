"""One put: reads sources, finds what the store has already, encodes the rest, and makes the files visible.

One thread reads and cuts; workers name and encode chunks; the caller's thread packs them, in order, so that a run
repeated after a crash builds the same packs; others send packs and write manifests. Chunks of one file may come from
packs that other files began, and a file becomes visible as soon as all its packs have arrived.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from io import RawIOBase
from typing import Self

from blake3 import blake3

from shardflow.delta.choosing import Predictors, best_few
from shardflow.delta.effort import Effort
from shardflow.delta.predicting import Predictor
from shardflow.errors import ShardflowError
from shardflow.layout import Layout, ReadAt, inspect
from shardflow.store import hints
from shardflow.store.ahead import made_ahead
from shardflow.store.bases import Known, StoredBase, distinct
from shardflow.store.catalog import Catalog
from shardflow.store.chunks import KeptChunks
from shardflow.store.coding import Against, Coded, Made
from shardflow.store.commit import Committer, Pending
from shardflow.store.config import StoreConfig
from shardflow.store.cutting import plan
from shardflow.store.examining import Examiner
from shardflow.store.following import Follower, followed_blocks
from shardflow.store.gear import Gear
from shardflow.store.journal import Journal
from shardflow.store.manifest import Manifest
from shardflow.store.manifest_at import manifest_at
from shardflow.store.noted import Noted, sha256_wanted
from shardflow.store.parallel import in_parallel
from shardflow.store.paths import key_of
from shardflow.store.presence import Presence
from shardflow.store.progress import Progress
from shardflow.store.reading import BLOCK_BYTES, Block, Buffers, blocks, stream_blocks
from shardflow.store.sending import PackSender
from shardflow.store.small import inline_manifest
from shardflow.store.sources import HEAD_BYTES, WRITTEN_LAST, EmptyDirectory, Source
from shardflow.store.trail import trail_of
from shardflow.store.wishes import Wishes
from shardflow.transport import ByteBudget, Cancellation, Transport

CANDIDATES = 4
READ_AHEAD = 1


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
        learn: bool = True,
        wishes: Wishes | None = None,
    ) -> None:
        settings = config.settings
        self._transport = transport.session(cancel=cancel, totals=progress.totals)
        self._settings = settings
        self._budget = budget
        self._progress = progress
        self._cancel = cancel
        self._existing = existing
        self._learn_from_store = learn
        self._wishes = wishes or Wishes()
        self._sha256 = sha256_wanted()
        self._gear = Gear(settings.cutting.minimum, settings.cutting.mean, settings.cutting.maximum)
        self._catalog = Catalog()
        self._journal = Journal(config.id)
        self._buffers = Buffers(settings.cutting.maximum)
        cores = os.cpu_count() or 1
        if self._wishes.beside:
            cores = max(1, cores // 2)
        depth = max(2, min(cores + 2, (budget.total - settings.pack_bytes) // (2 * BLOCK_BYTES)))
        self._reserved = settings.pack_bytes + (depth + READ_AHEAD + 2) * self._buffers.each
        self._workers = ThreadPoolExecutor(cores, thread_name_prefix="shardflow-encode")
        self._cutting = ThreadPoolExecutor(1, thread_name_prefix="shardflow-cut")
        self._committer = Committer(
            self._transport, self._catalog, settings.gc_grace_seconds, existing, replace_files=self._wishes.replace
        )
        self._sender = PackSender(self._transport, self._catalog, self._journal, budget, settings.pack_bytes)
        self._presence = Presence(self._transport, self._catalog, self._journal, self._sender.own)
        self._examiner = Examiner(self._presence, self._workers, depth, cancel)
        self._pending: deque[Pending] = deque()
        self._used: set[int] = set()  # packs that the files of this put need; others' notes are not ours to settle
        self._learned: set[str] = set()
        self._kept = KeptChunks()

    def __enter__(self) -> Self:
        if self._learn_from_store:
            for pack, entries in self._journal.unfinished():
                self._catalog.add_pack(pack, entries)
            for manifest in in_parallel(self._manifest_at, self._wishes.parts_of):
                if manifest is not None:
                    self._catalog.add_manifest(manifest)
        self._budget.acquire(self._reserved, self._cancel)  # last: after a failure here nobody gives it back
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._cancel.cancel("the operation failed" if issubclass(kind, Exception) else "interrupted")
        self._cutting.shutdown(wait=False, cancel_futures=True)
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
        manifest = inline_manifest(source, file, self._noted(), self._settings.inline_bytes)
        self._progress.add(manifest.size)
        return Pending(source.path, manifest, array("I"))

    def _noted(self) -> Noted:
        return Noted(md5=self._wishes.md5, sha256=self._sha256)

    def _chunked(self, source: Source, file: RawIOBase) -> Pending:
        self._sender.expect(source.size or 0)
        layout, features = self._look(source, file)
        earlier = self._learn(source, layout, features)
        against = self._against(source, file, layout, earlier)
        digest, noted, rows, size = blake3(), self._noted(), array("I"), 0
        with closing(self._blocks(source, file, layout, earlier)) as blocks:
            for examined in self._examiner.examined(blocks, against):
                for span, (chunk, known) in zip(examined.block.spans, examined.chunks, strict=True):
                    rows.append(self._place(chunk, span.end - span.start, known, size + span.start))
                size += len(examined.block.data)
                digest.update(examined.block.data)
                noted.update(examined.block.data)
                self._progress.add(len(examined.block.data))
                self._buffers.give(examined.block.buffer)
                self._commit_arrived()
        source.check_unchanged(file, size)
        manifest = Manifest(
            size, digest.digest(), layout=layout.kind, features=features, md5=noted.md5, sha256=noted.sha256
        )
        used = {self._catalog.pack_of(row) for row in self._catalog.with_bases(rows)}
        self._used |= used
        return Pending(source.path, manifest, rows, max(used & self._sender.own, default=-1))

    def _look(self, source: Source, file: RawIOBase) -> tuple[Layout, tuple[str, ...]]:
        """What is inside a source, before it is read from end to end; a long stream shows no more than its head."""
        read_at, size = source.random_access(file), source.size
        if size is None:
            return Layout("plain", (), None), hints.features_of_head(read_at(0, HEAD_BYTES), self._gear)
        layout = inspect(read_at, size)
        return layout, hints.features_of(read_at, size, self._gear, layout, self._workers.map)

    def _blocks(
        self, source: Source, file: RawIOBase, layout: Layout, earlier: list[Known]
    ) -> Generator[Block, None, None]:
        """The blocks of a source, the next one made while one is packed, if that need not leave a core to others.

        A stream may have nothing to give for ever, and a thread that waits for it would keep the program from ending.
        """
        blocks = self._cut(source, file, layout, earlier)
        if source.size is None or source.size <= BLOCK_BYTES or self._wishes.beside:
            return blocks
        return made_ahead(blocks, self._cutting, READ_AHEAD)

    def _cut(
        self, source: Source, file: RawIOBase, layout: Layout, earlier: list[Known]
    ) -> Generator[Block, None, None]:
        by_content = layout.kind == "plain" and (source.size is None or source.size > self._gear.maximum)
        if by_content and (trail := trail_of(self._catalog, earlier, self._gear)):
            follower = Follower(trail, self._gear, self._workers)
            return followed_blocks(file, source.size, follower, self._buffers)
        if not layout.segments:
            return stream_blocks(file, self._gear, self._buffers)
        runs = plan(layout, self._settings.chunk_bytes, self._settings.cutting.maximum)
        return blocks(file, runs, self._gear, self._buffers)

    def _place(self, chunk: bytes, size: int, known: int | Coded, at: int) -> int:
        # The same chunk may have been packed since a worker looked.
        row = known if isinstance(known, int) else self._presence.find(chunk)
        if row is not None:
            self._progress.add(0, reused=size)
            return row
        assert isinstance(known, Coded)
        bases = tuple(base if isinstance(base, int) else self._place_made(base) for base in known.bases)
        self._progress.add(0, on_bases=size if bases else 0)
        return self._sender.add(chunk, size, known.encoded.codec, known.encoded.parts, bases, at)

    def _place_made(self, made: Made) -> int:
        row = self._presence.find(made.chunk)
        return (
            row if row is not None else self._sender.add(made.chunk, made.size, made.encoded.codec, made.encoded.parts)
        )

    def _learn(self, source: Source, layout: Layout, features: tuple[str, ...]) -> list[Known]:
        """Take up the chunks of what is stored at this path now and of the files that look most alike."""
        if not self._learn_from_store:
            return []
        alike = [similar.path for similar in hints.look_up(self._transport, features)][:CANDIDATES]
        may_exist = self._existing is None or key_of(source.path) in self._existing
        candidates = [*self._named_bases(source), *([source.path] if may_exist else []), *alike]
        known = []
        for candidate in dict.fromkeys(candidates):
            if candidate not in self._learned or layout.fingerprint:
                self._learned.add(candidate)
                manifest = self._manifest_at(candidate)
                if manifest is not None:
                    known.append(Known(candidate, manifest, self._catalog.add_manifest(manifest)))
        if known:
            self._progress.looked_at[source.path] = tuple(each.path for each in known)
        return known

    def _manifest_at(self, path: str) -> Manifest | None:
        try:
            return manifest_at(self._transport, key_of(path), path)
        except ShardflowError:
            return None  # nothing there, or nothing usable: there is only less to save

    def _named_bases(self, source: Source) -> list[str]:
        """Where the base that the caller names may be: itself, or below it under the file's own name."""
        base = self._wishes.base
        if base is None:
            return []
        parts = source.path.split("/")
        return [base, *("/".join([base, *parts[first:]]) for first in range(len(parts)))]

    def _against(self, source: Source, file: RawIOBase, layout: Layout, known: list[Known]) -> Against | None:
        """What the file's chunks are tried against: the base that the caller names, or files that look alike."""
        settings, wishes = self._settings.deltas, self._wishes
        if not (settings.enabled and wishes.deltas and layout.fingerprint and source.size):
            return None
        if wishes.base is not None:
            named = set(self._named_bases(source))
            known = [each for each in known if each.path in named]
        if not known:
            return None
        read_new = source.random_access(file)
        return Against(
            lambda: self._predictors(layout, read_new, known),
            required=wishes.base is not None,
            worth=settings.worth,
        )

    def _predictors(self, layout: Layout, read_new: ReadAt, known: list[Known]) -> Predictors:
        settings, wishes = self._settings.deltas, self._wishes
        low_rank = settings.low_rank if wishes.merges else 0
        effort = Effort(settings.worth, low_rank, self._settings.chunk_bytes)
        candidates: list[Predictor] = []
        for each in distinct(known):
            try:
                held = wishes.held.get(each.path)
                base = StoredBase(self._transport, self._catalog, each, self._kept, settings.depth, held)
                candidates.append(Predictor(layout, read_new, base, effort, wishes.adapter))
            except ShardflowError:
                self._cancel.check()
                if wishes.base is not None:
                    raise
        return Predictors(best_few(candidates, settings.candidates))

    def _commit_arrived(self, *, all_have: bool = False) -> None:
        """Commit, in order, the files whose own packs have all arrived."""
        if self._wishes.before_visible and not all_have:
            return
        below = self._sender.sent_below()
        ready: list[Pending] = []
        while self._pending and self._pending[0].last_pack < below:
            ready.append(self._pending.popleft())
        if ready:
            self._committer.commit(ready)

    def _settle(self) -> None:
        self._sender.drain()
        if self._pending and self._wishes.before_visible:
            self._wishes.before_visible()
        self._commit_arrived(all_have=True)
        self._committer.drain()
        self._progress.packs_sent = self._sender.packs_sent
