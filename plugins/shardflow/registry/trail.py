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


class Chain:
    """A trail that is checked row by row: all that is kept of it is its last row, and what was wrong."""

    def __init__(self, since: Head | None = None) -> None:
        self.last = Head(0, "")
        self._since = since
        self._met = since is None or since.seq == 0
        self._rows = 0
        self._flaws: list[Flaw] = []

    def take(self, row: Entry) -> None:
        self._rows += 1
        self._flaws += _flaws(row, self.last)
        self.last = Head(row.seq, row.hash)
        self._met = self._met or self.last == self._since

    def ended(self, head: Head | None) -> Verified:
        """What it came to, if there is no row more and the end is noted as this."""
        flaws = list(self._flaws)
        if head is not None and head != self.last:
            flaws.append(Flaw(head.seq, _end(head, self.last)))
        if self._since is not None and not self._met:
            flaws.append(Flaw(self._since.seq, "is gone or another than when it was noted"))
        return Verified(self.last, self._rows, tuple(flaws))


class Standings:
    """The status that each version has by the trail, under the name that its model has now."""

    def __init__(self) -> None:
        self._told: dict[str, dict[int, Status]] = {}

    def take(self, row: Entry) -> None:
        if row.outcome != DONE:
            return
        if row.version is not None and row.action in {CREATED, MOVED} and row.after in set(Status):
            self._told.setdefault(row.model, {})[row.version] = Status(row.after)
        elif row.action == DELETED and row.version is not None:
            self._told.get(row.model, {}).pop(row.version, None)
        elif row.action == DELETED:
            self._told.pop(row.model, None)
        elif row.action == RENAMED and row.after is not None:
            self._told.setdefault(row.after, {}).update(self._told.pop(row.model, {}))

    def all(self) -> dict[tuple[str, int], Status]:
        return {(model, number): status for model, told in self._told.items() for number, status in told.items()}


def verified(rows: Iterable[Entry], head: Head | None, since: Head | None = None) -> Verified:
    """Check a whole trail against itself, its head, and a head that was noted earlier elsewhere."""
    chain = Chain(since)
    for row in rows:
        chain.take(row)
    return chain.ended(head)


def stages_told(rows: Iterable[Entry]) -> dict[tuple[str, int], Status]:
    """The status that each version has by these rows."""
    standings = Standings()
    for row in rows:
        standings.take(row)
    return standings.all()


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
