"""Everything that can go wrong between here and a store, each failure with its own name."""

from __future__ import annotations

from shardflow.errors import ShardflowError

IT_CHANGED = "it was changed by someone else meanwhile"
IT_IS_THERE = "it is already there"


class ForkedAway(ShardflowError):
    """Remote stores are out of reach of a process that was forked from one that had used one."""


class TransportError(ShardflowError):
    """An object could not be read, written, listed or deleted; trying again will not help."""

    transient = False


class Interrupted(TransportError):
    """One attempt failed in a way that may pass: a dropped connection, a busy server. Never leaves the transport."""

    transient = True


class Unreachable(TransportError):
    """Attempts were used up, and the last one failed in a way that may still pass."""


class ObjectMissing(TransportError):
    """There is no object of that name."""


class BucketMissing(TransportError):
    """There is no bucket (or container) of that name."""


class AccessDenied(TransportError):
    """The credentials are missing, wrong, or not enough."""


class AlreadyThere(TransportError):
    """A create-only write found an object of that name."""


class Changed(TransportError):
    """A conditional write or delete found another version than the one it named."""


class NoSpace(TransportError):
    """The disk or the quota is full."""


class ReadOnlyTarget(TransportError):
    """The store's place may be read but not written."""


class NameTaken(TransportError):
    """A file stands where a directory is needed, or the other way round."""


class Truncated(TransportError):
    """Fewer bytes came than the object should have."""

    def __init__(self, message: str, *, wanted: int, got: int, transient: bool = False, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.wanted = wanted
        self.got = got
        self.transient = transient
