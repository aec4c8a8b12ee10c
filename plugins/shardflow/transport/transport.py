"""The transport: reads, writes, deletes and lists the objects of one store, whatever kind of place it is in.

Calls block and are made from worker threads. Each is retried while its failure may pass, stops soon after its operation
is cancelled, and counts what it moved.
"""

from __future__ import annotations

import builtins
import copy
import secrets
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from shardflow.transport.cancel import Cancellation
from shardflow.transport.connection import open_backend
from shardflow.transport.delivery import Delivery
from shardflow.transport.errors import IT_CHANGED, Changed, Interrupted, ObjectMissing, TransportError
from shardflow.transport.info import Condition, NewObject, ObjectInfo
from shardflow.transport.keys import check_key, check_prefix
from shardflow.transport.limits import SPLIT_ABOVE
from shardflow.transport.parts import fresh_memory, read_in_parts
from shardflow.transport.progress import Totals
from shardflow.transport.retry import RetryPolicy
from shardflow.transport.translate import FOREIGN, Attempt, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from shardflow.transport.backend import Backend
    from shardflow.transport.url import StoreURL

T = TypeVar("T")

FEWEST_TOGETHER = 2


def connect(url: StoreURL, options: Mapping[str, str] | None = None, retry: RetryPolicy | None = None) -> Transport:
    """A transport for the store at `url`. Nothing is sent to it yet: a wrong bucket shows in the first request."""
    backend, server, credentials = open_backend(url, options or {})
    return Transport(url, backend, retry or RetryPolicy(), server=server, credentials=credentials)


class Transport:
    """One store's objects. Keys are relative to `url`."""

    def __init__(self, url: StoreURL, backend: Backend, retry: RetryPolicy, *, server: str, credentials: str) -> None:
        self.url = url
        self.cancel = Cancellation()
        self.totals = Totals()
        self._backend = backend
        self._retry = retry
        self._server = server
        self._credentials = credentials

    def above(self, url: StoreURL) -> Transport:
        """The objects of a place above this one, through the same clients: making more takes long."""
        backend = self._backend.at(url)
        return Transport(url, backend, self._retry, server=self._server, credentials=self._credentials)

    def session(self, cancel: Cancellation | None = None, totals: Totals | None = None) -> Transport:
        """A view for one operation: the same connection, with its own cancellation and counters."""
        view = copy.copy(self)
        view.cancel = cancel or Cancellation()
        view.totals = totals or Totals()
        return view

    def read(self, key: str) -> memoryview:
        """The whole object, all of it from one version."""
        check_key(key)
        data = self._retried(lambda: self._read_whole(key))
        self.totals.add(reads=1, bytes_received=data.nbytes)
        return data

    def read_range(self, key: str, start: int, length: int) -> memoryview:
        """Exactly `length` bytes from `start`; Truncated if the object ends before."""
        check_key(key)
        if start < 0 or length < 0:
            raise ValueError(f"cannot read {length} bytes at {start}")
        if length <= SPLIT_ABOVE or not self._backend.splits:
            data = memoryview(self._read_part(key, start, length, self.cancel) if length else b"")
        else:
            data = fresh_memory(length)
            self._fill(data, key, start)
        self.totals.add(reads=1, bytes_received=data.nbytes)
        return data

    def read_into(self, key: str, start: int, parts: Sequence[memoryview]) -> None:
        """What lies from `start` on into memory that is there, one part after the other; Truncated if it is less."""
        length = sum(part.nbytes for part in parts)
        if length > SPLIT_ABOVE and self._backend.splits:
            pour(self.read_range(key, start, length), parts)
            return
        check_key(key)
        self._attempt("read", key, lambda: self._backend.read_into(key, start, parts))
        self.totals.add(reads=1, bytes_received=length)

    def map_pages(self, key: str, start: int, room: memoryview) -> bool:
        """Put what lies from `start` on where whole pages of anonymous memory are; whoever writes to it has a copy.

        False, and nothing done, where an object is no file of this machine. `start` is a multiple of a page.
        """
        check_key(key)
        done = self._attempt("read", key, lambda: self._backend.map_pages(key, start, room))
        self.totals.add(reads=done, bytes_received=room.nbytes if done else 0)
        return done

    def head(self, key: str) -> ObjectInfo:
        """What is known of an object without reading it; ObjectMissing if there is none."""
        return self._attempt("read", check_key(key), lambda: self._backend.head(key))

    def write(
        self,
        key: str,
        data: Buffer,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_addressed: bool = False,
    ) -> ObjectInfo:
        """Write an object, all of it or nothing.

        `if_absent` raises AlreadyThere if there is one; `if_match` raises Changed unless the present one has that ETag.
        `content_addressed` says that the key is made from the content, so an object of this name and size is this one.
        """
        view = flat(data)
        condition = Condition(absent=if_absent, etag=if_match)
        check_key(key)
        delivery = Delivery(
            view.nbytes,
            send=lambda mark: self._once("write", key, lambda: self._backend.write(key, view, condition, mark)),
            look=lambda: self._once("read", key, lambda: self._backend.head_with_mark(key)),
            content_addressed=content_addressed,
        )
        done = self._retried(delivery.attempt)
        self.totals.add(objects_written=1, bytes_sent=view.nbytes)
        return done

    @property
    def together(self) -> int:
        """How many small objects `write_all` is best given at a time: 1 where it gains nothing over threads."""
        return self._backend.together.most if self._backend.together else 1

    def write_all(self, objects: Sequence[NewObject]) -> builtins.list[TransportError | None]:
        """Write objects, each all of it or nothing; what each failed with, None where it is written."""
        together = self._backend.together
        if together is None or len(objects) < FEWEST_TOGETHER:
            return [self._failure(new) for new in objects]
        for new in objects:
            check_key(new.key)
        failures: builtins.list[TransportError | None] = []
        for start in range(0, len(objects), together.most):
            self.cancel.check()
            part = objects[start : start + together.most]
            failures += [self._told(new, failure) for new, failure in zip(part, together.write(part), strict=True)]
        return failures

    def _told(self, new: NewObject, failure: Exception | None) -> TransportError | None:
        """What became of one of many; what may pass is tried again by itself."""
        if failure is None:
            self.totals.add(objects_written=1, bytes_sent=new.data.nbytes)
            return None
        error = translate(failure, self._doing("write", new.key))
        return self._failure(new) if error.transient else error

    def _failure(self, new: NewObject) -> TransportError | None:
        try:
            self.write(new.key, new.data, if_absent=new.if_absent)
        except TransportError as error:
            return error
        return None

    def delete(self, key: str, *, if_match: str | None = None) -> bool:
        """Delete an object; False if there was none. `if_match` raises Changed unless it has that ETag."""
        try:
            found = self.head(key)
        except ObjectMissing:
            return False
        if if_match is not None and found.etag != if_match:
            raise translate(Changed(IT_CHANGED), self._doing("delete", key))
        # Gone in the meantime: taken by an attempt whose answer was lost, or by someone else.
        with suppress(ObjectMissing):
            self._attempt("delete", key, lambda: self._backend.delete(key, if_match))
        self.totals.add(objects_deleted=1)
        return True

    def list(self, prefix: str = "", *, after: str | None = None) -> Iterator[ObjectInfo]:
        """Objects below a prefix of whole segments ("" for all), ascending, from the first key after `after` on."""
        listing = _Listing(self._backend, check_prefix(prefix), after)
        while page := self._attempt("list", prefix, listing.next_page):
            yield from page

    def list_names(self, prefix: str = "") -> tuple[builtins.list[str], builtins.list[str]]:
        """One level below a prefix: the names of its directories and of its objects, each sorted."""
        below = check_prefix(prefix)
        return self._attempt("list", prefix, lambda: self._backend.list_names(below))

    @property
    def conditional_deletes(self) -> bool:
        """Whether the store compares and deletes in one step; found out, if need be, on an object made for that."""
        return self._attempt("delete", "care/probe", self._backend.compares_when_deleting)

    def clock(self) -> float:
        """The store's own time, as it would stamp an object written now."""
        key = f"care/clock-{secrets.token_hex(8)}"
        self.write(key, b"")
        try:
            return self.head(key).modified
        finally:
            self.delete(key)

    def stale_temporaries(self, older_than: float, *, remove: bool = False) -> builtins.list[ObjectInfo]:
        """What killed writers left: unfinished files not touched for so many seconds. Only `file` stores have any."""
        now = self.clock()
        found = self._attempt("list", "", lambda: self._backend.stale_temporaries(older_than, now))
        for temporary in found if remove else ():
            self._attempt("delete", temporary.key, partial(self._backend.remove_temporary, temporary.key))
        return found

    def _read_whole(self, key: str) -> memoryview:
        first, info = self._once("read", key, lambda: self._backend.read_start(key, SPLIT_ABOVE))
        start = flat(first)
        if start.nbytes == info.size:
            return start
        whole = fresh_memory(info.size)
        whole[: start.nbytes] = start
        try:
            self._fill(whole[start.nbytes :], key, start.nbytes, info.etag)
        except Changed as error:
            raise Interrupted(error.message) from error
        return whole

    def _fill(self, out: memoryview, key: str, start: int, etag: str | None = None) -> None:
        read_in_parts(lambda at, size, cancel: self._read_part(key, at, size, cancel, etag), start, out, self.cancel)

    def _read_part(self, key: str, start: int, length: int, cancel: Cancellation, etag: str | None = None) -> Buffer:
        return self._retried(
            lambda: self._once("read", key, lambda: self._backend.read_range(key, start, length, etag)), cancel
        )

    def _attempt(self, verb: str, key: str, call: Callable[[], T]) -> T:
        return self._retried(lambda: self._once(verb, key, call))

    def _retried(self, call: Callable[[], T], cancel: Cancellation | None = None) -> T:
        return self._retry.run(call, cancel or self.cancel, lambda _: self.totals.add(retries=1))

    def _once(self, verb: str, key: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except FOREIGN as error:
            raise translate(error, self._doing(verb, key)) from error

    def _doing(self, verb: str, key: str) -> Attempt:
        place = f"{self.url} at {self._server}" if self._server else str(self.url)
        return Attempt(verb, key, place, self._credentials)


def pour(data: memoryview, parts: Sequence[memoryview]) -> None:
    """Copy bytes into parts that are as long together."""
    start = 0
    for part in parts:
        part[:] = data[start : start + part.nbytes]
        start += part.nbytes


def flat(data: Buffer) -> memoryview:
    """The bytes of a buffer of any shape; Python itself cannot cast an empty one."""
    view = memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(b"")


class _Listing:
    """A listing that goes on behind the last key it returned when a page fails."""

    def __init__(self, backend: Backend, prefix: str, after: str | None) -> None:
        self._backend = backend
        self._prefix = prefix
        self._after = after
        self._pages: Iterator[builtins.list[ObjectInfo]] | None = None

    def next_page(self) -> builtins.list[ObjectInfo]:
        """The next objects, or none at the end."""
        if self._pages is None:
            self._pages = self._backend.list(self._prefix, self._after)
        try:
            page = next(self._pages, [])
        except BaseException:
            self._pages = None
            raise
        if page:
            self._after = page[-1].key
        return page
