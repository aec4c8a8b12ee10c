"""Says of a store that refuses bytes which tensor of a checkpoint it had got to: the name of a pack tells nobody."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from shardflow.flavor.checkpointing.errors import StoringFailed
from shardflow.flavor.contents import TensorContent
from shardflow.flavor.shards import ShardSource
from shardflow.store.progress import Progress
from shardflow.store.sources import Source
from shardflow.transport import NoSpace, TransportError

ROOM_NEEDED = "free some space and save again; the checkpoints before it are intact"


@contextmanager
def naming_the_tensor(sources: Sequence[Source], progress: Progress) -> Iterator[None]:
    """Around a put of these sources, in this order."""
    try:
        yield
    except TransportError as error:
        name = tensor_at(sources, progress.bytes_done)
        message = error.message if name is None else f"{error.message}, when it had got to {name}"
        raise StoringFailed(message, remedy=ROOM_NEEDED if isinstance(error, NoSpace) else error.remedy) from error


def tensor_at(sources: Sequence[Source], position: int) -> str | None:
    """The tensor in which a position of all the files is, or the last one before it."""
    found, start = None, 0
    for source in sources:
        if position < start:
            break
        if isinstance(source, ShardSource):
            index = max(0, bisect_right(source.starts, position - start) - 1)
            content = source.contents[index]
            found = content.name if isinstance(content, TensorContent) else None
        start += source.size or 0
    return found
