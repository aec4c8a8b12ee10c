"""What is known of an object without reading it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object as the store describes it. `key` is relative to the transport's URL."""

    key: str
    size: int
    etag: str | None
    """Changes when the content does; without the quotes that some providers put around it."""
    modified: float
    """Unix seconds by the store's own clock. 0.0 from `write` on object stores, which do not tell it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold for a write or a delete to take place."""

    absent: bool = False
    etag: str | None = None

    def __bool__(self) -> bool:
        return self.absent or self.etag is not None


ALWAYS = Condition()


@dataclass(frozen=True, slots=True)
class NewObject:
    """An object to write."""

    key: str
    data: memoryview
    if_absent: bool = False
    """Whether it must not replace one that is there."""
