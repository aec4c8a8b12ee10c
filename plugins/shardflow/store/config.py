"""`shardflow.json`: what makes a prefix a store, its settings, and what a program must know to use it."""

from __future__ import annotations

import math
import time
import uuid
from typing import Annotated, Literal

import msgspec
from typing_extensions import Buffer

from shardflow.store import gear
from shardflow.store.errors import FormatUnknown, ManifestDamaged

CONFIG_KEY = "shardflow.json"
FORMAT = 1
KIB, MIB = 1 << 10, 1 << 20
ID = r"^[0-9A-Za-z_-]{1,64}\Z"  # it names a directory on every writer's machine, whoever wrote it here

Operation = Literal["read", "write", "delete"]
KNOWN_FEATURES: dict[Operation, frozenset[str]] = {"read": frozenset(), "write": frozenset(), "delete": frozenset()}


class Cutting(msgspec.Struct, frozen=True, kw_only=True):
    """How files without tensor borders are cut by content, in bytes; stores only dedupe what is cut alike."""

    minimum: int = gear.MINIMUM
    mean: int = gear.MEAN
    maximum: int = gear.MAXIMUM

    def __post_init__(self) -> None:
        if not 64 <= self.minimum < self.mean < self.maximum <= 4 * MIB:
            raise ValueError("cutting needs 64 <= minimum < mean < maximum <= 4194304")


class Deltas(msgspec.Struct, frozen=True, kw_only=True):
    """Whether and how new versions are coded against earlier ones."""

    enabled: bool = True
    depth: int = 4  # how many chunks may have to be decoded before one
    candidates: int = 2  # earlier files that are kept of those that look alike
    worth: float = 0.9  # of the size without a base: what a tensor may take with one at most
    low_rank: int = 256  # of merged adapters that are looked for; 0: not looked for

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= 64 or not 1 <= self.candidates <= 16:
            raise ValueError("deltas need a depth from 1 to 64 and 1 to 16 candidates")
        if not 0 < self.worth <= 1 or not 0 <= self.low_rank <= 256:
            raise ValueError("deltas need a worth above 0, up to 1, and a low_rank from 0 to 256")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Choices a store is made with; every writer of the store keeps to them."""

    pack_bytes: int = 32 * MIB
    chunk_bytes: int = 4 * MIB
    inline_bytes: int = 64 * KIB
    gc_grace_seconds: float = 24 * 3600.0
    cutting: Cutting = Cutting()
    deltas: Deltas = Deltas()

    def __post_init__(self) -> None:
        if not 4 * KIB <= self.chunk_bytes <= 4 * MIB:
            raise ValueError("chunk_bytes must lie between 4096 and 4194304")
        if not self.chunk_bytes <= self.pack_bytes <= 1024 * MIB:
            raise ValueError("pack_bytes must lie between chunk_bytes and 1073741824")
        if not 0 <= self.inline_bytes <= MIB:
            raise ValueError("inline_bytes must lie between 0 and 1048576")
        if not 0 <= self.gc_grace_seconds < math.inf:
            raise ValueError("gc_grace_seconds must be a number of seconds, not negative")


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `shardflow.json`."""

    format: int
    id: Annotated[str, msgspec.Meta(pattern=ID)]
    created: float
    settings: Settings = Settings()
    requires: dict[str, list[str]] = {}

    def check(self, operation: Operation, where: str) -> None:
        """Refuse an operation that needs something this version does not know."""
        if self.format > FORMAT:
            raise FormatUnknown(
                f"the store at {where} has format {self.format}, and this Shardflow knows up to {FORMAT}",
                remedy="upgrade Shardflow",
            )
        unknown = set(self.requires.get(operation, ())) - KNOWN_FEATURES[operation]
        if unknown:
            raise FormatUnknown(
                f"to {operation} the store at {where} needs {', '.join(sorted(unknown))}, unknown to this version",
                remedy="upgrade Shardflow",
            )


def new_config(settings: Settings) -> StoreConfig:
    return StoreConfig(format=FORMAT, id=str(uuid.uuid4()), created=time.time(), settings=settings)


def encode_config(config: StoreConfig) -> bytes:
    return msgspec.json.format(msgspec.json.encode(config), indent=2) + b"\n"


def decode_config(data: Buffer, where: str) -> StoreConfig:
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format > FORMAT:
            # Only the number is sure to mean the same in every format to come.
            return StoreConfig(format=head.format, id="", created=0.0)
        return msgspec.json.decode(data, type=StoreConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestDamaged(
            f"{CONFIG_KEY} of the store at {where} is not valid: {error}",
            remedy="restore it from a backup, or from another store's with this store's id",
        ) from None


class _Head(msgspec.Struct):
    format: int
