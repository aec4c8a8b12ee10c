"""Which packs a store has, and what their own indexes say is in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shardflow.store.errors import FormatUnknown, PackDamaged
from shardflow.store.pack import TAIL_BYTES, PackEntry, index_span, pack_key, pack_of_key, read_index
from shardflow.store.parallel import in_parallel
from shardflow.transport import ObjectInfo, ObjectMissing, Transport, Truncated

PACKS = "packs/"
TAIL_READ_BYTES = 64 << 10  # holds the index of nearly every pack, so that one request does


def listed_packs(transport: Transport) -> dict[bytes, ObjectInfo]:
    """Every pack, by name; objects that are none are left out."""
    found = {}
    for info in transport.list(PACKS):
        pack = pack_of_key(info.key)
        if pack is not None:
            found[pack] = info
    return found


def pack_index(transport: Transport, pack: bytes, size: int) -> list[PackEntry]:
    """A pack's own index, checked; PackDamaged, FormatUnknown or ObjectMissing if it cannot be had."""
    try:
        return _pack_index(transport, pack, size)
    except PackDamaged:
        # It may have been altered on its way here. Only what a second look shows too is so in the store.
        return _pack_index(transport, pack, size)


def _pack_index(transport: Transport, pack: bytes, size: int) -> list[PackEntry]:
    key = pack_key(pack)
    try:
        length = min(size, TAIL_READ_BYTES)
        end = memoryview(transport.read_range(key, size - length, length))
        start, count = index_span(pack, size, end[-TAIL_BYTES:])
        if start >= size - length:
            index = end[start - (size - length) :][:count]
        else:
            index = memoryview(transport.read_range(key, start, count))
        return read_index(pack, size, index, end[-TAIL_BYTES:])
    except Truncated:
        raise PackDamaged(
            f"pack {pack.hex()[:16]} is shorter than it was listed", remedy="run the check again"
        ) from None


def pack_indexes(
    transport: Transport, packs: Iterable[ObjectInfo]
) -> Iterator[tuple[bytes, list[PackEntry] | PackDamaged | FormatUnknown]]:
    """The index of each pack, or what is wrong with it; packs deleted since they were listed are left out."""

    def read(info: ObjectInfo) -> tuple[bytes, list[PackEntry] | PackDamaged | FormatUnknown | None]:
        pack = bytes.fromhex(info.key.rsplit("/", 1)[-1])
        try:
            return pack, pack_index(transport, pack, info.size)
        except (PackDamaged, FormatUnknown) as error:
            return pack, error
        except ObjectMissing:
            return pack, None

    for pack, index in in_parallel(read, packs):
        if index is not None:
            yield pack, index
