"""Checks that what a store says of itself fits together, without reading its data.

Every manifest parses; every pack it names is there, and the pack's own index has each chunk where the manifest says it
is; no chunk rests on more than is decoded for it; and the index of every other pack parses too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from shardflow.errors import ShardflowError
from shardflow.store.care.chunks import BasePlaces
from shardflow.store.care.columns import IndexColumns, IndexMemory
from shardflow.store.care.damage import Damage
from shardflow.store.care.marking import StoredManifest, Unreadable, all_manifests
from shardflow.store.care.packs import pack_indexes
from shardflow.store.care.problems import PUT_AGAIN, REPAIR, UPGRADE, Problem, Tell, counted, pack_damaged, pack_missing
from shardflow.store.care.progress import CareProgress
from shardflow.store.chunks import MOST_BASE_BYTES, too_heavy
from shardflow.store.errors import BadPath, FormatUnknown, PackDamaged
from shardflow.store.pack import pack_key
from shardflow.transport import ObjectInfo, ObjectMissing, Transport


class StructureCheck:
    """Holds the manifests of a store against the indexes of its packs."""

    def __init__(
        self, transport: Transport, packs: dict[bytes, ObjectInfo], tell: Tell, progress: CareProgress
    ) -> None:
        self.damage = Damage()
        self.manifests = 0
        self.future_packs: set[bytes] = set()  # of a format that this version does not know
        self.future_manifests = 0
        self.unreadable: list[str] = []  # keys of manifests that are damaged, or lead to more than is decoded
        self._transport = transport
        self._packs = dict(packs)
        self._tell = tell
        self._progress = progress
        self._indexes = IndexMemory()
        self.places = BasePlaces(transport)
        self._seen: set[bytes] = set()

    def run(self) -> None:
        for found in all_manifests(self._transport, self._progress, phase="checking manifests"):
            self.manifests += 1
            if isinstance(found, Unreadable):
                self._tell_unreadable(found)
            else:
                self._check_manifest(found)
        rest = [pack for pack in self._packs if pack not in self._seen]
        self._progress.begin("checking unused packs", len(rest))
        for _ in self._read(rest):
            self._progress.add()

    def _check_manifest(self, found: StoredManifest) -> None:
        table = found.manifest.table
        self.places.add(found.manifest)
        present = [pack for pack in table.packs if self._is_there(pack)]
        known = {pack: columns for pack in present if (columns := self._indexes.get(pack)) is not None}
        known |= dict(self._read(pack for pack in present if pack not in known))
        for number, pack in enumerate(table.packs):
            if pack in known:
                rows = np.flatnonzero(table.pack == number)
                wrong = rows[~known[pack].agrees(table, rows)]
                if len(wrong):
                    self.damage.doubt(pack, table.offset[wrong].tolist())
                    self._tell_wrong(found.path, pack, len(wrong))
        if heavy := too_heavy(table):
            self.unreadable.append(found.key)
            self._tell_heavy(found.path, len(heavy))

    def _is_there(self, pack: bytes) -> bool:
        if pack in self._packs:
            return True
        if pack in self.damage.missing:
            return False
        try:
            # It may have been written since the packs were listed.
            self._packs[pack] = self._transport.head(pack_key(pack))
        except ObjectMissing:
            self.damage.missing.add(pack)
            self._tell(pack_missing(pack))
            return False
        return True

    def _read(self, packs: Iterable[bytes]) -> Iterator[tuple[bytes, IndexColumns]]:
        """The indexes of some packs; those that cannot be had are told of, once."""
        unread = [self._packs[pack] for pack in packs if pack not in self.damage.damaged]
        for pack, index in pack_indexes(self._transport, unread):
            self._seen.add(pack)
            if isinstance(index, FormatUnknown):
                if pack not in self.future_packs:
                    self._tell_future(pack, index)
            elif isinstance(index, PackDamaged):
                self.damage.damaged.add(pack)
                self._tell(pack_damaged(pack, index.message))
            else:
                yield pack, self._indexes.keep(pack, IndexColumns.of(index))

    def _tell_unreadable(self, found: Unreadable) -> None:
        error = found.error
        if isinstance(error, BadPath):
            self._tell(Problem("foreign-object", error.message, error.remedy, key=found.key))
        elif isinstance(error, FormatUnknown):
            self.future_manifests += 1
            self._tell(Problem("manifest-future", error.message, UPGRADE, path=found.path))
        else:
            self.unreadable.append(found.key)
            remedy = f"{PUT_AGAIN}, or remove it"
            self._tell(Problem("manifest-damaged", error.message, remedy, path=found.path))

    def _tell_future(self, pack: bytes, error: ShardflowError) -> None:
        self.future_packs.add(pack)
        self._tell(Problem("pack-future", error.message, UPGRADE, pack=pack.hex()))

    def _tell_wrong(self, path: str, pack: bytes, count: int) -> None:
        what = f"{path} looks for {counted(count, 'chunk')} where pack {pack.hex()[:16]} has something else"
        self._tell(Problem("location-wrong", what, REPAIR, path=path, pack=pack.hex()))

    def _tell_heavy(self, path: str, count: int) -> None:
        rest = "rests" if count == 1 else "rest"
        what = f"{counted(count, 'chunk')} of {path} {rest} on more than {MOST_BASE_BYTES} bytes, which nobody decodes"
        self._tell(Problem("chunks-too-heavy", what, PUT_AGAIN, path=path))
