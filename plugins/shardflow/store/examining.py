"""Looks at blocks on several threads: which of their chunks the store has, and what the others are once encoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from blake3 import blake3

from shardflow.store.coding import Against, BlockEncoder, Coded
from shardflow.store.presence import Presence
from shardflow.store.reading import Block
from shardflow.transport import Cancellation


@dataclass(frozen=True, slots=True)
class Examined:
    """A block's chunks: the row of those the store has, the encoding of those it has not."""

    block: Block
    chunks: tuple[tuple[bytes, int | Coded], ...]


class Examiner:
    """Has `depth` blocks in the hands of a pool's threads."""

    def __init__(self, presence: Presence, workers: Executor, depth: int, cancel: Cancellation) -> None:
        self._presence = presence
        self._workers = workers
        self._depth = depth
        self._cancel = cancel

    def examined(self, blocks: Iterable[Block], against: Against | None) -> Iterator[Examined]:
        """Blocks in order, while workers look at the next ones."""
        ahead: deque[Future[Examined]] = deque()
        start = 0
        for block in blocks:
            self._cancel.check()
            ahead.append(self._workers.submit(self._examine, block, start, against))
            start += len(block.data)
            if len(ahead) >= self._depth:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()

    def _examine(self, block: Block, start: int, against: Against | None) -> Examined:
        chunks: list[tuple[bytes, int | Coded]] = []
        encoder = BlockEncoder(against)
        for span in block.spans:
            data = block.data[span.start : span.end]
            chunk = span.name or blake3(data).digest()
            row = self._presence.find(chunk)
            chunks.append((chunk, row if row is not None else encoder.encode(data, span.dtype, start + span.start)))
        return Examined(block, tuple(chunks))
