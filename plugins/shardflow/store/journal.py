"""The journal: a local note of every pack that was sent but that no manifest names yet.

A put that was killed and runs again takes these packs as they are, and so neither encodes nor sends them twice. The
notes hold what the packs' own indexes hold, one small file each; losing them costs time, never data.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from blake3 import blake3

from shardflow.local_state import state_directory
from shardflow.store.config import ID
from shardflow.store.pack import PackEntry

KEPT_SECONDS = 7 * 24 * 3600.0

_ID = re.compile(ID)
_NOTE = re.compile(r"[0-9a-f]{64}\.pack")  # git has files of this ending too: what is not ours by its name stays
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[PackEntry])


class Journal:
    """The notes of one store. Where the directory cannot be written, nothing is noted and nothing fails."""

    def __init__(self, store_id: str, directory: Path | None = None) -> None:
        if not _ID.search(store_id):
            raise ValueError(f"{store_id!r} is no id of a store, and names no directory of its own")
        self.directory = (directory or state_directory()) / "journal" / store_id

    def unfinished(self) -> Iterator[tuple[bytes, list[PackEntry]]]:
        """Packs noted by an earlier writer that ended before its manifests; old and unreadable notes are dropped."""
        now = time.time()
        try:
            notes = sorted(path for path in self.directory.iterdir() if _NOTE.fullmatch(path.name))
        except OSError:
            return
        for note in notes:
            try:
                if now - note.stat().st_mtime < KEPT_SECONDS:
                    yield _read(note)
                    continue
            except (OSError, ValueError, msgspec.MsgspecError):
                pass
            self._remove(note)

    def note(self, pack: bytes, entries: Iterable[PackEntry]) -> None:
        note = self._path(pack)
        partial = note.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self.directory.mkdir(parents=True, exist_ok=True)
            packed = _encoder.encode(list(entries))
            partial.write_bytes(_checksum(pack, packed) + packed)
            partial.replace(note)

    def settle(self, packs: Iterable[bytes]) -> None:
        """These packs are named by manifests now, or are gone from the store."""
        for pack in packs:
            self._remove(self._path(pack))

    def _path(self, pack: bytes) -> Path:
        return self.directory / f"{pack.hex()}.pack"

    @staticmethod
    def _remove(note: Path) -> None:
        with contextlib.suppress(OSError):
            note.unlink()


def _read(note: Path) -> tuple[bytes, list[PackEntry]]:
    # Manifests are made from notes: one that a power failure or a bad disk altered must not pass.
    pack, data = bytes.fromhex(note.stem), note.read_bytes()
    if data[:32] != _checksum(pack, data[32:]):
        raise ValueError("a note fails its checksum")
    return pack, _decoder.decode(data[32:])


def _checksum(pack: bytes, packed: bytes) -> bytes:
    return blake3(pack + packed).digest()
