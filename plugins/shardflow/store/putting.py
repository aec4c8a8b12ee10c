"""Puts sources into a store, wherever they came from: a second time, relying on nothing, if the store was collected."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from shardflow.store.bases import Held
from shardflow.store.config import StoreConfig
from shardflow.store.errors import PackMissing
from shardflow.store.paths import normal, prefix_of
from shardflow.store.progress import Progress
from shardflow.store.sources import EmptyDirectory, Source, StreamSource
from shardflow.store.wishes import Wishes
from shardflow.store.writer import Writer
from shardflow.transport import ByteBudget, Cancellation, Transport

if TYPE_CHECKING:
    from shardflow.store.store import Store


def put_sources(
    store: Store,
    sources: Sequence[Source | EmptyDirectory],
    path: str,
    *,
    base: str | None = None,
    parts_of: Sequence[str] = (),
    merges: bool = True,
    held: Mapping[str, Held] | None = None,
    beside: bool = False,
    before_visible: Callable[[], None] | None = None,
    progress: Progress | None = None,
    cancel: Cancellation | None = None,
) -> Progress:
    """Store sources that the caller made, whose own paths lie below `path`; they may be read twice.

    `base` is a path in the store: the model that these files are coded against. `parts_of` are stored files whose
    chunks come again in these: nothing else is looked for then, and what is new stands by itself. Without `merges`
    nobody looks for an adapter that was merged into the base, which takes long. `held` are files of the base, by
    their paths, that the caller has in memory still, and need not be fetched and decoded. What is put `beside` other
    work of the program leaves half of the cores to that. With `before_visible` the files become visible together,
    right after it was called, once all of their bytes have arrived.
    """
    store.config.check("write", str(store.url))
    if base is not None:
        store.kind(base)  # a base that is not there is told now
    progress = progress if progress is not None else Progress()
    files = [source for source in sources if not isinstance(source, EmptyDirectory)]
    progress.files_total, progress.bytes_total = len(files), sum(file.size or 0 for file in files)
    existing = {info.key for info in store.transport.list(prefix_of(normal(path)))}
    parts = tuple(normal(part) for part in parts_of)
    base = normal(base) if base is not None else None
    wishes = Wishes(
        deltas=not parts,
        base=base,
        parts_of=parts,
        merges=merges,
        held=held or {},
        beside=beside,
        before_visible=before_visible,
    )
    write_sources(store.transport, store.config, store.budget, sources, existing, wishes, progress, cancel)
    return progress


def write_sources(
    transport: Transport,
    config: StoreConfig,
    budget: ByteBudget,
    sources: Sequence[Source | EmptyDirectory],
    existing: set[str],
    wishes: Wishes,
    progress: Progress,
    cancel: Cancellation | None,
) -> None:
    """Write sources; `existing` are those of the keys they go to that there are."""

    def write(*, learn: bool) -> None:
        with Writer(
            transport,
            config,
            budget,
            progress=progress,
            cancel=Cancellation(parent=cancel),
            existing=existing,
            learn=learn,
            wishes=wishes,
        ) as writer:
            for source in sources:
                writer.add(source)
            writer.finish()

    try:
        write(learn=True)
    except PackMissing:
        # Something this put reused was collected under it. What can be read again relies on nothing this time.
        if any(isinstance(source, StreamSource) and not source.ended for source in sources):
            raise
        progress.restart()
        write(learn=False)
