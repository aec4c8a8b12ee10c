"""What a check can find wrong in a store, each with what it is about and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal[
    "manifest-damaged",
    "manifest-future",
    "pack-missing",
    "pack-damaged",
    "pack-future",
    "chunk-unknown",
    "location-wrong",
    "chunks-lost",
    "chunks-too-heavy",
    "tombstone-damaged",
    "foreign-object",
    "not-mended",
]

# These keep a store from working as it should for this program; the others are only worth knowing.
NOT_SERIOUS: frozenset[Kind] = frozenset({"foreign-object"})

REPAIR = "run 'shardflow fsck --repair'"
REPAIR_DATA = "run 'shardflow fsck --read-data --repair'"
PUT_AGAIN = "put the file again"
UPGRADE = "upgrade Shardflow"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `path` is a file in the store, `pack` a pack's name in hex, `key` any other object."""

    kind: Kind
    what: str
    remedy: str
    path: str | None = None
    pack: str | None = None
    key: str | None = None
    mended: bool = False  # by the check that found it

    @property
    def serious(self) -> bool:
        return self.kind not in NOT_SERIOUS

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}" if not self.mended else f"{self.what} (mended)"

    def as_dict(self) -> dict[str, Any]:
        about = {name: value for name, value in asdict(self).items() if value is not None}
        return about | {"serious": self.serious}


Tell = Callable[[Problem], None]


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def pack_missing(pack: bytes) -> Problem:
    name = pack.hex()
    return Problem("pack-missing", f"pack {name[:16]} is needed and is not in the store", REPAIR, pack=name)


def pack_damaged(pack: bytes, what: str, remedy: str = REPAIR) -> Problem:
    return Problem("pack-damaged", what, remedy, pack=pack.hex())
