"""Reads packs from end to end and proves every byte and every chunk in them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from shardflow.store.care.chunks import BasePlaces, Verdict, verdict
from shardflow.store.care.problems import counted
from shardflow.store.errors import FormatUnknown, PackDamaged
from shardflow.store.pack import check_whole, pack_key
from shardflow.store.parallel import in_parallel
from shardflow.transport import ByteBudget, Cancellation, ObjectInfo, ObjectMissing, Transport


@dataclass(frozen=True, slots=True)
class ReadPack:
    """What reading one pack showed. `wrong` says what is, if something is; `unknown` counts chunks that this version
    cannot decode."""

    pack: bytes
    bytes: int
    wrong: str | None = None
    unknown: int = 0


def read_packs(
    transport: Transport,
    packs: Iterable[ObjectInfo],
    budget: ByteBudget,
    places: BasePlaces,
    *,
    deadline: float | None = None,
    cancel: Cancellation | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[ReadPack]:
    """Prove packs, in order, several at once within the budget; at least one, even past the deadline.

    Packs that were deleted since they were listed are left out.
    """

    def read(info: ObjectInfo) -> ReadPack | None:
        with budget.hold(info.size, cancel):
            return _read(transport, info, places)

    def in_time() -> Iterator[ObjectInfo]:
        for count, info in enumerate(packs):
            if count and deadline is not None and clock() > deadline:
                return
            yield info

    for found in in_parallel(read, in_time(), threads=min(4, os.cpu_count() or 1)):
        if found is not None:
            yield found


def _read(transport: Transport, info: ObjectInfo, places: BasePlaces) -> ReadPack | None:
    pack = bytes.fromhex(info.key.rsplit("/", 1)[-1])
    try:
        first = _proven(transport, pack, places)
        # What is wrong may have happened on the way here. Only what a second reading shows too is so in the store.
        return first if first.wrong is None else _proven(transport, pack, places)
    except ObjectMissing:
        return None


def _proven(transport: Transport, pack: bytes, places: BasePlaces) -> ReadPack:
    data = memoryview(transport.read(pack_key(pack)))
    try:
        entries = check_whole(pack, data)
    except PackDamaged as error:
        return ReadPack(pack, data.nbytes, error.message)
    except FormatUnknown:
        return ReadPack(pack, data.nbytes, unknown=1)
    # What is unproven is as it was written, since the pack is; what it rests on is told of where that lies.
    verdicts = [verdict(entry, data[entry.offset : entry.offset + entry.stored], places) for entry in entries]
    wrong = verdicts.count(Verdict.DAMAGED)
    what = f"pack {pack.hex()[:16]} holds {counted(wrong, 'chunk')} with other bytes than the name stands for"
    return ReadPack(pack, data.nbytes, what if wrong else None, verdicts.count(Verdict.UNKNOWN))
