"""What was moved already: a record of each version in the target store, which a later run believes as far as it goes.

A record says of each file what the original was like and which content it had. A file is passed over if its original
is like that still, and the store has that content. So a record may be lost, or be wrong: then the file is read again.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from shardflow.errors import ShardflowError
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.moving.originals import Original
from shardflow.flavor.moving.versions import RECORDS
from shardflow.store.store import Store


class MovedFile(msgspec.Struct, frozen=True):
    """A file as it was when it was moved."""

    size: int
    stamp: str
    digest: str


class _Stored(msgspec.Struct, frozen=True):
    source: str
    seconds: float
    files: dict[str, MovedFile]


@dataclass(slots=True)
class Record:
    """One version's files that are in the store, and compared."""

    store: Store
    path: str
    source: str
    seconds: float = 0.0
    files: dict[str, MovedFile] = field(default_factory=dict)

    def has(self, original: Original, stored: Mapping[str, str]) -> bool:
        """Whether a file needs no moving; `stored` are the digests of what the target has by name."""
        known = self.files.get(original.name)
        if known is None or known.stamp != original.stamp or original.size not in (None, known.size):
            return False
        return stored.get(original.name) == known.digest

    def note(self, original: Original, size: int, digest: str) -> None:
        self.files[original.name] = MovedFile(size, original.stamp, digest)

    def save(self) -> None:
        data = msgspec.json.encode(_Stored(self.source, round(self.seconds, 3), self.files))
        self.store.put(io.BytesIO(data), self.path)


def read_record(store: Store, path: str, source: str) -> Record:
    """The record of an earlier run that moved this source to this path, or an empty one."""
    record = Record(store, f"{records_of(path)}/record.json", source)
    try:
        with store.open(record.path) as file:
            found = decoded(file.read(), _Stored)
    except (ShardflowError, Undecodable):
        return record
    if found.source == source:
        record.seconds, record.files = found.seconds, found.files
    return record


def records_of(path: str) -> str:
    """Where the store keeps what it knows of a move to a path: apart from the models, which are what they were."""
    return f"{RECORDS}/{path}" if path else RECORDS
