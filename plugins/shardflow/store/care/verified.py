"""When each pack was last read from end to end and found whole: kept in the store, so that checks go on where the last
one stopped, whichever machine ran it."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

import msgspec
import zstandard

from shardflow.store.care.timing import StoreClock
from shardflow.transport import (
    AccessDenied,
    AlreadyThere,
    Changed,
    ObjectInfo,
    ObjectMissing,
    ReadOnlyTarget,
    Transport,
)

VERIFIED_KEY = "care/verified"
SAVE_EVERY_SECONDS = 60.0
SAVING_SHARE = 0.05  # of the time, at most: with a million packs, saving takes a while
MAX_RECORD_BYTES = 1 << 30
ATTEMPTS = 8


class Verified:
    """The records of one store; `note` packs as they are proven, `save` at the end."""

    def __init__(self, transport: Transport, clock: StoreClock) -> None:
        self._transport = transport
        self._clock = clock
        self._times, _ = self._stored()
        self._unsaved: dict[bytes, float] = {}
        self._saved = time.monotonic()
        self._save_seconds = 0.0

    def when(self, pack: bytes) -> float | None:
        return self._times.get(pack)

    def note(self, pack: bytes, existing: Collection[bytes]) -> None:
        """A pack was just proven whole. Saved now and then, so that being killed costs a minute."""
        self._times[pack] = self._unsaved[pack] = self._clock.now()
        if time.monotonic() - self._saved > max(SAVE_EVERY_SECONDS, self._save_seconds / SAVING_SHARE):
            self.save(existing)

    def save(self, existing: Collection[bytes]) -> bool:
        """Merge with what is stored now, leaving out packs that are gone; False if the store takes no writes."""
        started = time.monotonic()
        for _ in range(ATTEMPTS if self._unsaved else 0):
            stored, etag = self._stored()
            merged = {pack: when for pack, when in stored.items() if pack in existing}
            merged |= {pack: max(when, merged.get(pack, 0.0)) for pack, when in self._unsaved.items()}
            try:
                self._transport.write(VERIFIED_KEY, _encoded(merged), if_match=etag, if_absent=etag is None)
            except (Changed, AlreadyThere, ObjectMissing):
                continue  # another check saved meanwhile
            except (AccessDenied, ReadOnlyTarget):
                return False
            break
        self._unsaved, self._saved = {}, time.monotonic()
        self._save_seconds = self._saved - started
        return True

    def in_order(self, packs: Iterable[ObjectInfo]) -> list[bytes]:
        """Packs that were never verified first, the oldest of them first; then those whose last time is longest ago."""
        keyed = []
        for info in packs:
            pack = bytes.fromhex(info.key.rsplit("/", 1)[-1])
            when = self._times.get(pack)
            keyed.append((when is not None, info.modified if when is None else when, pack))
        return [pack for _, _, pack in sorted(keyed)]

    def _stored(self) -> tuple[dict[bytes, float], str | None]:
        try:
            etag = self._transport.head(VERIFIED_KEY).etag
            data = self._transport.read(VERIFIED_KEY)
        except ObjectMissing:
            return {}, None
        try:
            return _decoded(data), etag
        except (msgspec.MsgspecError, zstandard.ZstdError, ValueError):
            return {}, etag  # all that is lost is when packs were last read


def _decoded(data: memoryview) -> dict[bytes, float]:
    size = zstandard.frame_content_size(data)
    if not 0 <= size <= MAX_RECORD_BYTES:
        raise ValueError(f"declares {size} bytes")
    body = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    return msgspec.msgpack.decode(body, type=dict[bytes, float])


def _encoded(times: dict[bytes, float]) -> bytes:
    whole = {pack: int(when) for pack, when in times.items()}
    return zstandard.ZstdCompressor(level=3).compress(msgspec.msgpack.encode(whole))
