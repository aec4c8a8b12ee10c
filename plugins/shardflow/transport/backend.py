"""What the transport asks of a backend: single attempts at single objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Sequence

    from typing_extensions import Buffer

    from shardflow.transport.info import Condition, NewObject, ObjectInfo
    from shardflow.transport.url import StoreURL


class Together(Protocol):
    """Writes many small objects for less than each by itself would take."""

    @property
    def most(self) -> int:
        """As many as one call should be given."""

    def write(self, objects: Sequence[NewObject]) -> list[Exception | None]:
        """What each failed with, None where it was written; each of them all or nothing, as `Backend.write` does."""


class Backend(Protocol):
    """Keys are relative and already checked; retries, cancellation and counting are the transport's work.

    Errors are the transport's own with a message that says only what was found, or whatever obstore or the operating
    system raised: `translate` makes the sentence for the user out of either.
    """

    def at(self, url: StoreURL) -> Backend:
        """The same bucket or disk, from another place on."""

    @property
    def splits(self) -> bool:
        """Whether large ranges gain from being read in parts, side by side."""

    def read_start(self, key: str, limit: int) -> tuple[Buffer, ObjectInfo]:
        """The first `limit` bytes, or all if there are fewer, and what the object is in all."""

    def read_range(self, key: str, start: int, length: int, etag: str | None = None) -> Buffer:
        """Exactly `length` bytes from `start`, or Truncated; of the version that `etag` names, or Changed."""

    def read_into(self, key: str, start: int, parts: Sequence[memoryview]) -> None:
        """What lies from `start` on into memory that is there, one part after the other, or Truncated."""

    def map_pages(self, key: str, start: int, room: memoryview) -> bool:
        """Put what lies from `start` on in the place of whole pages of memory; False where that cannot be."""

    def head(self, key: str) -> ObjectInfo: ...

    def head_with_mark(self, key: str) -> tuple[ObjectInfo, str]:
        """The object, and the mark it was written with ("" if none is kept)."""

    def write(self, key: str, data: memoryview, condition: Condition, mark: str) -> ObjectInfo:
        """All or nothing. The mark is kept with what a conditional write wrote, if its answer could be lost."""

    @property
    def together(self) -> Together | None:
        """None where writes side by side are as fast as any."""

    def delete(self, key: str, etag: str | None) -> None:
        """Delete an object that was there a moment ago; with an ETag only that version, compared as late as can be."""

    def compares_when_deleting(self) -> bool:
        """Whether a delete with an ETag compares and deletes in one step; may have to try it out."""

    def list(self, prefix: str, after: str | None) -> Iterator[builtins.list[ObjectInfo]]:
        """Pages of objects, keys ascending."""

    def list_names(self, prefix: str) -> tuple[builtins.list[str], builtins.list[str]]: ...

    def stale_temporaries(self, older_than: float, now: float) -> builtins.list[ObjectInfo]:
        """Unfinished files that killed writers left."""

    def remove_temporary(self, key: str) -> None: ...
