"""Hints: small objects that say "a file like this one is stored there", so that a writer finds what it may reuse.

A file with tensors is found by the fingerprint of their names, dtypes and shapes; any larger file by a sketch of its
content. A feature keeps at most 64 hints, the newest winning its slot, so a look-up costs the same in a store of ten
files or a million. Hints may be lost, stale or wrong: that costs bytes, never correctness.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import msgspec
from blake3 import blake3

from shardflow.errors import ShardflowError
from shardflow.layout import Layout
from shardflow.store.errors import BadPath
from shardflow.store.gear import Gear
from shardflow.store.manifest import Manifest
from shardflow.store.parallel import in_parallel
from shardflow.store.paths import key_of, path_of
from shardflow.transport import ObjectInfo, Transport

HINTS = "hints/"
SLOTS = 64
NEWEST = 4
MIN_HINTED_BYTES = 1 << 20
WINDOW_BYTES = 8 << 20
TENSORS_WINDOW_BYTES = 2 << 20  # files with tensors are found by those first, and a small model is not to be cut whole

InTurn = Callable[[Callable[[int], bytes], Iterable[int]], Iterable[bytes]]

_FEATURE = re.compile(r"[a-z]-[0-9a-f]{1,64}")  # manifests are read from the store: not every text may become a key


class Hint(msgspec.Struct, frozen=True):
    """Where a file of this feature was last seen, and its content then."""

    key: str  # of its manifest: unlike the path it is text whatever bytes the name is made of
    digest: bytes

    @property
    def path(self) -> str:
        """Empty where the key is none that a store writes."""
        try:
            return path_of(self.key)
        except BadPath:
            return ""


@dataclass(frozen=True, slots=True)
class Similar:
    """A stored file that shares features with the one being looked for, and how many."""

    path: str
    shared: int
    newest: float


def features_of(
    read_at: Callable[[int, int], bytes],
    size: int,
    gear: Gear,
    layout: Layout,
    in_turn: InTurn = map,
) -> tuple[str, ...]:
    """The features of a file: those of its tensors, and the smallest chunk name of its head, middle and tail.

    Two files that share much of a window share its smallest chunk name with the same likelihood, wherever the window
    begins, because cuts follow the content. `in_turn` does the work for each window, perhaps on several threads.
    """
    if size < MIN_HINTED_BYTES:
        return ()
    window = WINDOW_BYTES if layout.fingerprint is None else TENSORS_WINDOW_BYTES
    starts = {0, max(0, size // 2 - window // 2), max(0, size - window)}

    def smallest(start: int) -> bytes:
        return _smallest_chunk(read_at(start, min(window, size - start)), gear)

    gear.expect(min(size, len(starts) * window))
    names = in_turn(smallest, sorted(starts))
    return (*_tensor_features(layout), *(_sketch(name) for name in dict.fromkeys(names)))


def _tensor_features(layout: Layout) -> tuple[str, ...]:
    """The tensors' fingerprint, and what stays of it when a model is cast or grows, or its tensors are renamed."""
    if layout.fingerprint is None:
        return ()
    tensors = [segment for segment in layout.segments if segment.name]
    names, shapes = blake3(), blake3()
    for name in sorted(segment.name.encode("utf-8", "surrogatepass") for segment in tensors):
        names.update(struct.pack("<I", len(name)) + name)
    for shape in sorted(segment.shape for segment in tensors):
        shapes.update(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
    fingerprints = {"t": layout.fingerprint, "n": names.digest(), "s": shapes.digest()}
    return tuple(f"{letter}-{digest.hex()[:32]}" for letter, digest in fingerprints.items())


def features_of_head(head: bytes, gear: Gear) -> tuple[str, ...]:
    """The one feature of a file of which only the first window is known."""
    return (_sketch(_smallest_chunk(head[:WINDOW_BYTES], gear)),)


def hint_objects(path: str, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """The objects that make a stored file findable, as (key, data)."""
    key = key_of(path)
    data = msgspec.msgpack.encode(Hint(key, manifest.digest))
    slot = blake3(key.encode()).digest()[0] % SLOTS
    for feature in manifest.features:
        if _FEATURE.fullmatch(feature):
            yield f"{HINTS}{feature}/{slot:02x}", data


def look_up(transport: Transport, features: Iterable[str]) -> list[Similar]:
    """Stored files worth looking at, the most promising first; an unreadable hint is passed over."""

    def newest(feature: str) -> list[ObjectInfo]:
        return sorted(transport.list(f"{HINTS}{feature}/"), key=lambda hint: -hint.modified)[:NEWEST]

    infos = [info for one in in_parallel(newest, features) for info in one]
    found: dict[str, tuple[int, float]] = {}
    for info, hint in zip(infos, in_parallel(lambda info: read_hint(transport, info.key), infos), strict=True):
        if hint is not None:
            shared, when = found.get(hint.path, (0, 0.0))
            found[hint.path] = (shared + 1, max(when, info.modified))
    similar = [Similar(path, shared, when) for path, (shared, when) in found.items()]
    return sorted(similar, key=lambda candidate: (-candidate.shared, -candidate.newest))


def read_hint(transport: Transport, key: str) -> Hint | None:
    try:
        hint = msgspec.msgpack.decode(transport.read(key), type=Hint)
        return hint if hint.path else None
    except (ShardflowError, msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _sketch(name: bytes) -> str:
    return f"c-{name.hex()[:32]}"


def _smallest_chunk(window: bytes, gear: Gear) -> bytes:
    view, start, smallest = memoryview(window), 0, b"\xff" * 32
    for end in gear.cuts(view, final=True):
        smallest = min(smallest, blake3(view[start:end]).digest())
        start = end
    return smallest
