"""The backends that obstore serves: S3, GCS, Azure and memory, one request (or one multipart upload) a call."""

from __future__ import annotations

import builtins
import secrets
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError

from shardflow.loans import BufferPool, fresh
from shardflow.transport.answers import Failure
from shardflow.transport.errors import Changed, TransportError, Truncated
from shardflow.transport.info import ALWAYS, Condition, ObjectInfo
from shardflow.transport.lanes import Lanes
from shardflow.transport.limits import LARGEST_IN_ONE, LIST_PAGE, PART_BYTES, SPLIT_ABOVE, parallel_parts
from shardflow.transport.pace import Pace
from shardflow.transport.translate import FOREIGN, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from obstore import GetResult, ObjectMeta, PutMode
    from typing_extensions import Buffer

    from shardflow.transport.provider import Provider
    from shardflow.transport.url import StoreURL


LARGE_BODY_BYTES = 1 << 20
READS_AT_ONCE, READS_OF_SLOW_CONNECTIONS = 8, 16  # of large bodies; more than a few take processor time from each other
WRITES_AT_ONCE = 1 << 10  # whoever writes keeps to fewer
PIECE_BYTES = 256 << 10
_bodies = BufferPool(larger_do=True)

MARK = "shardflow_write"
"""The user metadata that tells one conditional write from another; Azure wants names that C# could have."""


class Objects:
    """Objects below `prefix` in a provider's bucket."""

    together = None

    def __init__(self, provider: Provider[Any], prefix: str) -> None:
        self._provider = provider
        self._base = f"{prefix}/" if prefix else ""
        self._compares_when_deleting: bool | None = None
        self._pace = Pace()
        self._reads = Lanes(READS_AT_ONCE, READS_OF_SLOW_CONNECTIONS)
        self._writes = Lanes(WRITES_AT_ONCE, WRITES_AT_ONCE)

    def at(self, url: StoreURL) -> Objects:
        return Objects(self._provider, url.prefix)

    @property
    def splits(self) -> bool:
        return self._provider.remote

    def read_start(self, key: str, limit: int) -> tuple[Buffer, ObjectInfo]:
        """The beginning of an object, which for most is all of it."""
        try:
            result = obstore.get(self._provider.reading, self._base + key, options={"range": (0, limit)})
        except BaseError as error:
            if not Failure(error).past_end:
                raise
            return b"", self.head(key)  # empty objects have no first byte
        info = self._described(result.meta)
        return _body(result, min(limit, info.size), fresh), info

    def read_range(self, key: str, start: int, length: int, etag: str | None = None) -> Buffer:
        """`length` bytes from `start`, in one request."""
        with self._reads.lane(length) if length >= LARGE_BODY_BYTES else nullcontext():
            return _body(self._asked(key, start, length, etag), length, _bodies.lend)

    def read_into(self, key: str, start: int, parts: Sequence[memoryview]) -> None:
        """What lies from `start` on, in one request, whose answer is copied once."""
        length = sum(len(part) for part in parts)
        with self._reads.lane(length) if length >= LARGE_BODY_BYTES else nullcontext():
            _pieces_into(parts, self._asked(key, start, length, None).stream(min_chunk_size=PIECE_BYTES), length)

    def map_pages(self, key: str, start: int, room: memoryview) -> bool:  # noqa: ARG002
        """No pages of this machine."""
        return False

    def _asked(self, key: str, start: int, length: int, etag: str | None) -> GetResult:
        try:
            result = obstore.get(self._provider.reading, self._base + key, options={"range": (start, start + length)})
        except BaseError as error:
            if Failure(error).past_end:
                raise _too_short(start, length, 0) from None
            raise
        info = self._described(result.meta)
        if etag is not None and info.etag != etag:
            raise Changed("it was changed while it was read")
        if info.size < start + length:
            raise _too_short(start, length, info.size - start)
        return result

    def head(self, key: str) -> ObjectInfo:
        return self._described(obstore.head(self._provider.reading, self._base + key))

    def head_with_mark(self, key: str) -> tuple[ObjectInfo, str]:
        result = obstore.get(self._provider.reading, self._base + key, options={"head": True})
        return self._described(result.meta), result.attributes.get(MARK, "")

    def write(self, key: str, data: memoryview, condition: Condition = ALWAYS, mark: str = "") -> ObjectInfo:
        """One PUT, or a multipart upload for a large object without a condition where the link is slow."""
        path = self._base + key
        remote = self._provider.remote
        mode = self._mode(path, condition)
        large = remote and not condition and data.nbytes > SPLIT_ABOVE
        in_parts = large and (self._pace.wants_parts or data.nbytes > LARGEST_IN_ONE)
        with self._provider.exclusive, self._sending(data.nbytes, in_parts) if large else nullcontext():
            done = obstore.put(
                self._provider.writing,
                path,
                data if remote else bytes(data),  # the memory store would keep the caller's buffer, and change with it
                mode=mode,
                attributes={MARK: mark} if condition else None,
                use_multipart=in_parts,
                chunk_size=PART_BYTES,
                max_concurrency=parallel_parts(),
            )
        return ObjectInfo(key, data.nbytes, plain_etag(done["e_tag"]), 0.0)

    @contextmanager
    def _sending(self, size: int, in_parts: bool) -> Iterator[None]:
        with self._writes.lane(size), self._pace.measured(size, in_parts=in_parts):
            yield

    def delete(self, key: str, etag: str | None) -> None:
        """Delete, with an ETag on that condition if the server can: if it cannot, it was compared just before."""
        path = self._base + key
        if etag is not None and self.compares_when_deleting():
            self._provider.delete_unchanged(path, etag)
        else:
            obstore.delete(self._provider.writing, path)

    def compares_when_deleting(self) -> bool:
        """Tried once, on an object of its own: some servers take the condition and pay no heed to it."""
        if self._compares_when_deleting is None:
            self._compares_when_deleting = self._refuses_to_delete_another_version()
        return self._compares_when_deleting

    def list(self, prefix: str, after: str | None) -> Iterator[builtins.list[ObjectInfo]]:
        """Objects below a prefix, as many at a time as S3 sends."""
        below = (self._base + prefix).rstrip("/") or None
        offset = self._base + after if after else None
        for page in obstore.list(self._provider.reading, below, offset=offset, chunk_size=LIST_PAGE):
            yield [self._described(meta) for meta in page]

    def list_names(self, prefix: str) -> tuple[builtins.list[str], builtins.list[str]]:
        """Names one level below a prefix."""
        below = (self._base + prefix).rstrip("/")
        found = obstore.list_with_delimiter(self._provider.reading, below or None)
        cut = len(below) + 1 if below else 0
        directories = [name.rstrip("/")[cut:] for name in found["common_prefixes"]]
        return sorted(directories), sorted(meta["path"][cut:] for meta in found["objects"])

    def stale_temporaries(self, older_than: float, now: float) -> builtins.list[ObjectInfo]:  # noqa: ARG002
        """None: an object is there whole or not at all."""
        return []

    def remove_temporary(self, key: str) -> None:
        """Nothing: there are none."""

    def _refuses_to_delete_another_version(self) -> bool:
        key = f"care/probe-{secrets.token_hex(8)}"
        first = self.write(key, memoryview(b"first"))
        second = self.write(key, memoryview(b"second"))
        try:
            return self._tried(key, first) is Changed and self._tried(key, second) is None
        finally:
            with suppress(*FOREIGN):
                obstore.delete(self._provider.writing, self._base + key)

    def _tried(self, key: str, version: ObjectInfo) -> type[TransportError] | None:
        """What came of deleting one version: nothing bad, or a refusal. A passing failure is raised."""
        try:
            self._provider.delete_unchanged(self._base + key, version.etag or "")
        except FOREIGN as error:
            if kind_of(error).transient:
                raise
            return kind_of(error)
        return None

    def _mode(self, path: str, condition: Condition) -> PutMode:
        if condition.absent:
            return "create"
        return self._provider.update_mode(path, condition.etag) if condition.etag is not None else "overwrite"

    def _described(self, meta: ObjectMeta) -> ObjectInfo:
        key = meta["path"].removeprefix(self._base)
        return ObjectInfo(key, meta["size"], plain_etag(meta["e_tag"]), meta["last_modified"].timestamp())


def plain_etag(etag: str | None) -> str | None:
    """Without quotes: Azure puts them on in answers to HEAD and leaves them out of listings."""
    return etag.strip('"') if etag else None


def _body(result: GetResult, length: int, memory: Callable[[int], memoryview]) -> Buffer:
    """What was answered; a large body comes piece by piece, into memory made for it.

    As one piece it would have memory of its own from the C library, which keeps hundreds of MiB of such for itself.
    """
    if length < LARGE_BODY_BYTES:
        whole = result.bytes()
        _check_length(len(whole), length)
        return whole
    body = memory(length)
    _pieces_into([body], result.stream(min_chunk_size=PIECE_BYTES), length)
    return body


def _pieces_into(parts: Sequence[memoryview], pieces: Iterable[Buffer], length: int) -> None:
    left, got = list(parts)[::-1], 0
    for piece in pieces:
        data = memoryview(piece)
        got += len(data)
        while left and data:
            count = min(len(left[-1]), len(data))
            left[-1][:count] = data[:count]
            rest, data = left.pop()[count:], data[count:]
            if rest:
                left.append(rest)
    _check_length(got, length)


def _check_length(got: int, length: int) -> None:
    if got != length:
        what = f"the answer broke off: wanted {length} bytes, got {got}"
        raise Truncated(what, wanted=length, got=got, transient=True)


def _too_short(start: int, length: int, got: int) -> Truncated:
    got = max(0, got)
    what = f"it is too short: wanted {length} bytes at {start}, got {got}"
    return Truncated(what, wanted=length, got=got, remedy="run 'shardflow fsck'")
