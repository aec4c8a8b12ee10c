"""Checks the trail: finds rows that were edited, removed, put in or moved, and versions changed around the registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from shardflow.errors import ShardflowError
from shardflow.registry.audit import CREATED, DELETED, DONE, MOVED, RENAMED, Entry, Head
from shardflow.registry.lifecycle import STAGES
from shardflow.registry.terms import Status


@dataclass(frozen=True, slots=True)
class Flaw:
    """One place at which the trail is not what was written."""

    seq: int
    what: str

    def __str__(self) -> str:
        return f"row {self.seq}: {self.what}"


@dataclass(frozen=True, slots=True)
class Verified:
    """What a check of the whole trail came to."""

    head: Head
    rows: int
    flaws: tuple[Flaw, ...]


def verified(rows: Iterable[Entry], head: Head | None, since: Head | None = None) -> Verified:
    """Check a whole trail against itself, its head, and a head that was noted earlier elsewhere."""
    last, count, flaws, met = Head(0, ""), 0, list[Flaw](), since is None or since.seq == 0
    for row in rows:
        count += 1
        flaws += _flaws(row, last)
        last = Head(row.seq, row.hash)
        met = met or last == since
    if head is not None and head != last:
        flaws.append(Flaw(head.seq, _end(head, last)))
    if since is not None and not met:
        flaws.append(Flaw(since.seq, "is gone or another than when it was noted"))
    return Verified(last, count, tuple(flaws))


def stages_told(rows: Iterable[Entry]) -> dict[tuple[str, int], Status]:
    """The status that each version has by the trail, under the name that its model has now."""
    told: dict[tuple[str, int], Status] = {}
    for row in rows:
        if row.outcome != DONE:
            continue
        if row.version is not None and row.action in {CREATED, MOVED} and row.after in set(Status):
            told[row.model, row.version] = Status(row.after)
        elif row.action == DELETED:
            gone = [one for one in told if one[0] == row.model and row.version in (None, one[1])]
            told = {one: status for one, status in told.items() if one not in gone}
        elif row.action == RENAMED and row.after is not None:
            told = {(row.after if name == row.model else name, n): status for (name, n), status in told.items()}
    return told


def astray(told: Mapping[tuple[str, int], Status], stages: Mapping[tuple[str, int], str]) -> list[str]:
    """Versions that stand elsewhere than the trail says: somebody moved them past the registry."""
    return [
        f"{name}/{number} is in {stages[name, number]}, and the trail says {status}: it was moved around the registry"
        for (name, number), status in told.items()
        if (name, number) in stages and stages[name, number] != STAGES[status]
    ]


def read_head(text: str) -> Head:
    """A head as `Head` is printed: the number and the hash of a row."""
    seq, _, digest = text.partition(":")
    if not seq.isdecimal() or len(digest) != 64:
        raise ShardflowError(
            f"{text!r} is not a row of the trail", remedy="give NUMBER:HASH as 'shardflow audit verify' printed it"
        )
    return Head(int(seq), digest)


def _flaws(row: Entry, last: Head) -> Iterator[Flaw]:
    if row.seq != last.seq + 1:
        missing = f"{last.seq + 1} to {row.seq - 1}" if row.seq - last.seq > 2 else str(last.seq + 1)
        yield Flaw(last.seq + 1, f"rows were removed before row {row.seq} (missing: {missing})")
    elif row.previous != last.hash:
        yield Flaw(row.seq, "does not follow the row before it: one of the two was put there, moved or edited")
    if row.computed() != row.hash:
        yield Flaw(row.seq, "was edited: its words and its hash do not belong together")


def _end(head: Head, last: Head) -> str:
    if head.seq > last.seq:
        return f"the trail ends at row {last.seq}, and {head.seq} were written: the last rows were removed"
    return f"the trail's end is noted as {head}, and its last row is {last}"
