"""Turns what obstore and the operating system raise into the transport's own errors, in one line each."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

from obstore.exceptions import BaseError

from shardflow.transport.answers import RULES, Answered, Failure
from shardflow.transport.errors import (
    AccessDenied,
    Interrupted,
    NameTaken,
    NoSpace,
    ObjectMissing,
    ReadOnlyTarget,
    TransportError,
)

FOREIGN = (TransportError, Answered, BaseError, OSError, ValueError)
"""What a backend may raise; anything else is a bug."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was being done when it failed, for the sentence that tells of it."""

    verb: str
    """read, write, delete or list."""
    key: str
    place: str
    """The store's URL, with the endpoint where that is not the provider's own."""
    credentials: str
    """How credentials are set for this backend."""

    def __str__(self) -> str:
        return f"cannot {self.verb} {self.key or 'objects'} in {self.place}"


def translate(error: Exception, doing: Attempt) -> TransportError:
    """The transport's error for anything a backend raised, told in full."""
    if isinstance(error, TransportError):
        error.message = f"{doing}: {error.message}"
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return _from_system(error.errno, doing)
    return _from_service(Failure(error), doing)


def kind_of(error: Exception) -> type[TransportError]:
    """Which of the transport's errors this would become, with nothing told yet."""
    if isinstance(error, TransportError):
        return type(error)
    return type(translate(error, Attempt("delete", "", "", "")))


def _from_service(failure: Failure, doing: Attempt) -> TransportError:
    rule = next(rule for rule in RULES if rule.applies(failure))
    reason = rule.reason or (failure.dropped if not failure.status else "") or failure.said
    if failure.dropped and failure.server and failure.server not in doing.place:
        reason += f" ({failure.server})"
    return rule.kind(
        f"{doing}: {reason}", remedy=rule.remedy or (doing.credentials if rule.kind is AccessDenied else "")
    )


_FULL = (NoSpace, "free some space and run the command again")
_NO_WRITING = (ReadOnlyTarget, "make the directory writable or name another store")
_NO_READING = (AccessDenied, "ask for the right to read it")
_WRONG_KIND = (NameTaken, "a file stands where a directory is needed, or the other way round")
_GONE = (ObjectMissing, "")
_PASSING = (Interrupted, "")

_ALWAYS: dict[int, tuple[type[TransportError], str]] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (NoSpace, "the disk or a limit (ulimit -f) allows no file as large as this"),
    errno.ENAMETOOLONG: (TransportError, "use a shorter path"),
    errno.ENOENT: _GONE,
    errno.ESTALE: _PASSING,
    errno.EAGAIN: _PASSING,
    errno.EBUSY: _PASSING,
    errno.ETIMEDOUT: _PASSING,
}
_CHANGING = {
    errno.EROFS: _NO_WRITING,
    errno.EACCES: _NO_WRITING,
    errno.EPERM: _NO_WRITING,
    errno.ENOTDIR: _WRONG_KIND,
    errno.EISDIR: _WRONG_KIND,
    errno.EEXIST: _WRONG_KIND,
}
_LOOKING = {
    errno.EACCES: _NO_READING,
    errno.EPERM: _NO_READING,
    errno.ENOTDIR: _GONE,
    errno.EISDIR: _GONE,
    errno.ENXIO: _GONE,  # a socket
}


def _from_system(number: int, doing: Attempt) -> TransportError:
    own = _CHANGING if doing.verb in ("write", "delete") else _LOOKING
    kind, remedy = own.get(number) or _ALWAYS.get(number) or (TransportError, "")
    reason = "it is not there" if kind is ObjectMissing else os.strerror(number).lower()
    return kind(f"{doing}: {reason}", remedy=remedy)
