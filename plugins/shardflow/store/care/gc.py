"""Garbage collection: frees packs that no manifest names, in two phases with a grace period between.

The first collection that finds a pack unused sets it aside in a tombstone; one that runs a grace period later deletes
it if it is unused still. `shardflow.store.tombstones` says why no writer can lose anything by that, and why a settled
tombstone stays for another while. A collection may die at any point, and two may run at once: every step only repeats
or continues what the tombstones already say.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from shardflow.errors import ShardflowError
from shardflow.store.care.leftovers import HintKeeper, remove_leftovers
from shardflow.store.care.marking import Unreadable, all_manifests
from shardflow.store.care.packs import listed_packs
from shardflow.store.care.progress import CareProgress
from shardflow.store.care.timing import store_time
from shardflow.store.commit import seconds
from shardflow.store.pack import pack_key
from shardflow.store.parallel import in_parallel
from shardflow.store.store import Store
from shardflow.store.tombstones import (
    Doomed,
    FoundTombstone,
    release,
    remove_released,
    tombstones,
    write_tombstone,
)
from shardflow.transport import Cancellation, Changed

Fate = Literal["deleted", "gone", "used", "changed", "late"]


@dataclass(frozen=True, slots=True)
class Amount:
    """So many packs, and their bytes."""

    packs: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class GcReport:
    """What a collection found and did (or, in a dry run, would do). The amounts but the first add up to it."""

    total: Amount
    live: Amount  # named by a manifest
    fresh: Amount  # unused, and too young to judge
    set_aside: Amount  # by this collection
    waiting: Amount  # set aside by an earlier one
    deleted: Amount
    kept_changed: Amount  # written anew since they were set aside
    manifests: int
    hints_removed: int
    leftovers_removed: int  # what killed programs left: unfinished files, probes; and damaged packs kept long enough
    next_at: float | None  # by the store's clock: when a further collection can do more; None if nothing is left to do
    dry_run: bool
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def collect(
    store: Store,
    *,
    dry_run: bool = False,
    grace: float | None = None,
    progress: CareProgress | None = None,
    cancel: Cancellation | None = None,
) -> GcReport:
    """Set aside what is unused, and delete what was set aside a grace period ago and is unused still.

    `grace` (seconds) stands in for the store's own. 0 is a promise that nothing else uses the store meanwhile.
    """
    store.config.check("delete", str(store.url))
    return _Collection(store, dry_run, grace, progress or CareProgress(), cancel).run()


class _Collection:
    """The state of one collection; its steps are in the order of `run`."""

    def __init__(
        self, store: Store, dry_run: bool, grace: float | None, progress: CareProgress, cancel: Cancellation | None
    ) -> None:
        usual = store.config.settings.gc_grace_seconds
        self._transport = store.transport.session(cancel=cancel)
        self._dry_run = dry_run
        self._grace = usual if grace is None else grace
        self._progress = progress
        self._started = seconds()
        self._now = store_time(self._transport, writable=not dry_run)
        self._notes: list[str] = []
        if self._grace < usual:
            self._notes.append(
                f"the grace period was {self._grace:g} s, and writers of this store count on {usual:g} s"
            )

    def run(self) -> GcReport:
        found = list(tombstones(self._transport))
        self._packs = listed_packs(self._transport)
        self._mark()
        unused = {pack: info for pack, info in self._packs.items() if pack not in self._live}
        listed = {doomed.pack for tombstone in found for doomed in tombstone.packs}
        fresh = {pack for pack in unused if pack not in listed and not self._is_old(unused[pack].modified)}
        aside = unused.keys() - listed - fresh
        self._set_aside(aside)
        fates = self._settle(found)
        deleted = {pack for pack, fate in fates.items() if fate == "deleted"}
        changed = {pack for pack, fate in fates.items() if fate == "changed"}
        waiting = unused.keys() - fresh - aside - deleted - changed
        dry_run = self._dry_run
        hints, leftovers = remove_leftovers(
            self._transport,
            self._hints,
            now=self._now,
            grace=self._grace,
            progress=self._progress,
            dry_run=dry_run,
        )
        return GcReport(
            total=self._amount(self._packs),
            live=self._amount(self._packs.keys() - unused.keys()),
            fresh=self._amount(fresh),
            set_aside=self._amount(aside),
            waiting=self._amount(waiting),
            deleted=self._amount(deleted),
            kept_changed=self._amount(changed),
            manifests=self._manifests,
            hints_removed=hints,
            leftovers_removed=leftovers,
            next_at=self._next(found, fresh, aside, waiting),
            dry_run=dry_run,
            notes=tuple(self._notes),
        )

    def _mark(self) -> None:
        """Which packs are in use. Unless every manifest can be read, nobody knows."""
        self._live: set[bytes] = set()
        self._hints = HintKeeper()
        self._manifests = 0
        for found in all_manifests(self._transport, self._progress):
            if isinstance(found, Unreadable):
                raise _refused(found.error)
            self._manifests += 1
            self._live.update(found.manifest.table.packs)
            self._hints.note(found.path, found.manifest)

    def _is_old(self, since: float) -> bool:
        return self._grace == 0 or since <= self._now - self._grace

    def _set_aside(self, packs: set[bytes]) -> None:
        if packs and not self._dry_run:
            doomed = [Doomed(pack, self._packs[pack].size, self._packs[pack].etag) for pack in sorted(packs)]
            write_tombstone(self._transport, doomed)

    def _settle(self, found: list[FoundTombstone]) -> dict[bytes, Fate]:
        """Deal with every tombstone that is old enough; returns what became of the packs in them."""
        due = [tombstone for tombstone in found if self._is_old(tombstone.written)]
        fates: dict[bytes, Fate] = {}
        self._progress.begin("deleting", sum(len(tombstone.packs) for tombstone in due if not tombstone.released))
        for tombstone in due:
            if not tombstone.released:
                settled = self._delete_packs(tombstone, fates)
                if settled and not self._dry_run:
                    release(self._transport, tombstone)
            elif not self._dry_run:
                remove_released(self._transport, tombstone)
        self._explain(fates)
        return fates

    def _delete_packs(self, tombstone: FoundTombstone, fates: dict[bytes, Fate]) -> bool:
        """Delete what is still unused of one tombstone; False if something was left undone."""
        done = True
        for doomed, fate in zip(tombstone.packs, in_parallel(self._delete, tombstone.packs), strict=True):
            self._progress.add()
            done &= fate != "late"
            if fates.get(doomed.pack) != "deleted":
                fates[doomed.pack] = fate
        return done

    def _delete(self, doomed: Doomed) -> Fate:
        if doomed.pack in self._live:
            return "used"
        if doomed.pack not in self._packs:
            return "gone"
        if self._too_late():
            return "late"
        if self._dry_run:
            return "deleted"
        try:
            return "deleted" if self._transport.delete(pack_key(doomed.pack), if_match=doomed.etag) else "gone"
        except Changed:
            return "changed"

    def _too_late(self) -> bool:
        """Whether what was marked may no longer be relied on; released tombstones protect writers for twice as long."""
        limit = self._grace / 2 if self._grace > 0 else math.inf
        return seconds() - self._started > limit

    def _explain(self, fates: dict[bytes, Fate]) -> None:
        if "late" in fates.values():
            self._notes.append(
                f"it took more than half of the grace period ({self._grace:g} s) to see what is in use, so deleting "
                "was left undone; use a longer grace period"
            )
        if "deleted" in fates.values() and not self._dry_run and not self._transport.conditional_deletes:
            self._notes.append(
                "this provider does not delete on condition; packs were compared first, and the grace period protects "
                "writers as everywhere"
            )

    def _amount(self, packs: Any) -> Amount:
        return Amount(len(packs), sum(self._packs[pack].size for pack in packs))

    def _next(
        self, found: list[FoundTombstone], fresh: set[bytes], aside: set[bytes], waiting: set[bytes]
    ) -> float | None:
        """When the first of what is unused can go one step further."""
        times = [self._now + self._grace] if aside else []
        times += [self._packs[pack].modified + self._grace for pack in fresh]
        for tombstone in found:
            if any(doomed.pack in waiting for doomed in tombstone.packs):
                times.append(max(tombstone.written + self._grace, self._now))
        return min(times, default=None)


def _refused(error: ShardflowError) -> ShardflowError:
    return type(error)(f"nothing was deleted, because {error.message}", remedy=error.remedy)
