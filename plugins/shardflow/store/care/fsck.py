"""fsck: proves a store whole, or says what is wrong, which files suffer, and what to do; mends it if asked to.

The structure is always checked in full. With `read_data`, packs are read from end to end too: those never verified
first, then those verified longest ago, so that runs limited in time or to a share of the packs cover all in turn.
"""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from shardflow.store.care.belonging import damaged_tombstones, foreign_objects
from shardflow.store.care.damage import Damage
from shardflow.store.care.mending import AffectedFile, Mended, affected_files, mend
from shardflow.store.care.packs import listed_packs
from shardflow.store.care.problems import (
    PUT_AGAIN,
    REPAIR,
    REPAIR_DATA,
    UPGRADE,
    Kind,
    Problem,
    Tell,
    counted,
    pack_damaged,
)
from shardflow.store.care.progress import CareProgress
from shardflow.store.care.reading import read_packs
from shardflow.store.care.structure import StructureCheck
from shardflow.store.care.timing import StoreClock
from shardflow.store.care.verified import Verified
from shardflow.store.lacking import note_lacking
from shardflow.store.paths import key_of
from shardflow.store.store import Store
from shardflow.transport import Cancellation, ObjectInfo


@dataclass(frozen=True, slots=True)
class Unverified:
    """The pack that is next in line to be read, and for how long nobody has."""

    pack: str
    seconds: float
    ever: bool  # whether it was verified at all


@dataclass(frozen=True, slots=True)
class FsckReport:
    """What a check found."""

    manifests: int
    packs: int
    pack_bytes: int
    packs_read: int
    bytes_read: int
    packs_left: int  # were to be read too, but time was up
    never_read: int  # packs that no check has read so far
    oldest_unverified: Unverified | None
    problems: tuple[Problem, ...]
    affected: tuple[AffectedFile, ...]
    mended: Mended | None
    saved: bool  # whether the store took the record of what was read

    @property
    def ok(self) -> bool:
        """Nothing serious is wrong (any more)."""
        return all(problem.mended or not problem.serious for problem in self.problems)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ok": self.ok, "problems": [problem.as_dict() for problem in self.problems]}


def check(
    store: Store,
    *,
    read_data: bool = False,
    sample: float | None = None,
    repair: bool = False,
    max_seconds: float | None = None,
    progress: CareProgress | None = None,
    cancel: Cancellation | None = None,
    on_problem: Tell | None = None,
) -> FsckReport:
    """Check a store; problems are told as they are found, and again in the report.

    `sample` (0 to 1) reads that share of the packs; `max_seconds` ends the reading, but never before one pack is read.
    """
    url = str(store.url)
    store.config.check("read", url)
    if repair:
        store.config.check("write", url)
        store.config.check("delete", url)
    started = time.monotonic()
    checking = _Check(store, repair, progress or CareProgress(), cancel, on_problem)
    checking.structure()
    if read_data or sample is not None:
        deadline = None if max_seconds is None else started + max_seconds
        checking.data(1.0 if sample is None else sample, deadline)
    checking.consequences()
    return checking.report()


class _Check:
    """The state of one check."""

    def __init__(
        self, store: Store, repair: bool, progress: CareProgress, cancel: Cancellation | None, tell: Tell | None
    ) -> None:
        self._store = store
        self._repair = repair
        self._progress = progress
        self._cancel = cancel
        self._transport = store.transport.session(cancel=cancel)
        self._on_problem = tell
        self._problems: list[Problem] = []
        self._clock = StoreClock(self._transport, writable=repair)
        self._packs = listed_packs(self._transport)
        self._structure = StructureCheck(self._transport, self._packs, self._tell, progress)
        self._verified = Verified(self._transport, self._clock)
        self._affected: list[AffectedFile] = []
        self._mended: Mended | None = None
        self._packs_read = self._bytes_read = self._packs_left = 0
        self._all_read = False
        self._saved = True

    def structure(self) -> None:
        for problem in damaged_tombstones(self._transport):
            self._tell(problem)
            if self._repair and problem.key is not None:
                self._transport.delete(problem.key)
        for problem in foreign_objects(self._transport):
            self._tell(problem)
        self._structure.run()

    def data(self, share: float, deadline: float | None) -> None:
        """Read packs, in the order in which it is most needed, and keep a record of those that are whole."""
        damage = self._structure.damage
        chosen = self._chosen(share)
        self._progress.begin("reading packs", sum(info.size for info in chosen), "bytes")
        try:
            places, budget = self._structure.places, self._store.budget
            for read in read_packs(self._transport, chosen, budget, places, deadline=deadline, cancel=self._cancel):
                self._packs_read += 1
                self._bytes_read += read.bytes
                self._progress.add(read.bytes)
                if read.wrong is not None and read.pack not in damage.damaged:
                    damage.damaged.add(read.pack)
                    # A flipped bit can make a pack look like one of another format; its name shows what it is.
                    self._structure.future_packs.discard(read.pack)
                    self._tell(pack_damaged(read.pack, read.wrong, REPAIR_DATA))
                elif read.wrong is None and read.unknown:
                    self._tell_unknown(read.pack, read.unknown)
                elif read.wrong is None:
                    self._verified.note(read.pack, self._packs)
        finally:
            self._saved = self._verified.save(self._packs)
        self._packs_left = max(0, len(chosen) - self._packs_read)
        self._all_read = share == 1 and not self._packs_left

    def consequences(self) -> None:
        """Who suffers from what was found; mended first if that was asked for."""
        future = self._structure.future_packs or self._structure.future_manifests
        if damage := self._structure.damage:
            self._suffering(damage, repair=self._repair and not future)
        if self._repair and not future:
            # What is noted of files that were put again meanwhile is taken back by whoever reads them all.
            lacking = [*self._structure.unreadable, *(key_of(file.path) for file in self._affected)]
            note_lacking(self._transport, lacking, all_known=self._all_read)

    def _suffering(self, damage: Damage, *, repair: bool) -> None:
        if repair:
            self._mended, self._affected = mend(self._transport, self._store.config.settings, damage, self._progress)
            for what in self._mended.not_mended:
                self._tell(Problem("not-mended", what, "run the same command again"))
        else:
            self._affected = affected_files(self._transport, damage, self._progress)
            if self._repair:
                what = "nothing was mended, because something in the store is of a newer format"
                self._tell(Problem("not-mended", what, UPGRADE))
        for file in self._affected:
            self._tell_affected(file)

    def report(self) -> FsckReport:
        return FsckReport(
            manifests=self._structure.manifests,
            packs=len(self._packs),
            pack_bytes=sum(info.size for info in self._packs.values()),
            packs_read=self._packs_read,
            bytes_read=self._bytes_read,
            packs_left=self._packs_left,
            never_read=sum(self._verified.when(pack) is None for pack in self._packs),
            oldest_unverified=self._oldest(),
            problems=tuple(self._after_mending(problem) for problem in self._problems),
            affected=tuple(self._affected),
            mended=self._mended,
            saved=self._saved,
        )

    def _chosen(self, share: float) -> list[ObjectInfo]:
        order = self._verified.in_order(self._packs.values())
        return [self._packs[pack] for pack in order[: math.ceil(share * len(order))]]

    def _oldest(self) -> Unverified | None:
        gone = set(self._mended.packs_moved_aside) if self._mended else set()
        for pack in self._verified.in_order(self._packs.values()):
            if pack.hex() in gone:
                continue
            when = self._verified.when(pack)
            since = self._packs[pack].modified if when is None else when
            return Unverified(pack.hex(), max(0.0, self._clock.now() - since), when is not None)
        return None

    def _after_mending(self, problem: Problem) -> Problem:
        if problem.kind == "tombstone-damaged":
            return replace(problem, mended=self._repair)
        if self._mended is None or self._mended.not_mended or problem.kind not in _MENDABLE:
            return problem  # with anything of a newer format about, nothing is mended at all
        lacking = {chunk.pack for file in self._affected for chunk in file.chunks}
        return replace(problem, mended=problem.pack not in lacking)

    def _tell(self, problem: Problem) -> None:
        self._problems.append(problem)
        if self._on_problem is not None:
            self._on_problem(problem)

    def _tell_unknown(self, pack: bytes, count: int) -> None:
        what = f"pack {pack.hex()[:16]} holds {counted(count, 'chunk')} in an encoding that this version cannot decode"
        self._tell(Problem("chunk-unknown", what, UPGRADE, pack=pack.hex()))

    def _tell_affected(self, file: AffectedFile) -> None:
        what = f"{file.path} lacks {counted(len(file.chunks), 'chunk')} ({counted(file.bytes, 'byte')})"
        repair = REPAIR_DATA if self._packs_read else REPAIR
        remedy = PUT_AGAIN if self._repair else f"{repair}, then {PUT_AGAIN}"
        self._tell(Problem("chunks-lost", what, remedy, path=file.path))


_MENDABLE: frozenset[Kind] = frozenset({"pack-missing", "pack-damaged", "pack-future", "location-wrong"})
