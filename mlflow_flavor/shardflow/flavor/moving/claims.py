"""A note in the store that some work is under way there: a second run of it waits, and a later one knows of the first.

It lies beside what is worked on and goes when the work is done. What a killed run left is told by its note, so the
next run goes on from there. A note of a process that is gone counts for nothing else.

Two runs never hold one place: the note is made only where there is none, and replaced or removed only as it was read.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from shardflow.errors import ShardflowError
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.owners import Owner, ended, may_be_alive, new_owner
from shardflow.store.errors import PathMissing, PathTaken
from shardflow.store.paths import key_of
from shardflow.store.small import put_over
from shardflow.store.store import Store
from shardflow.transport import Changed, ObjectInfo, ObjectMissing

_TRIES = 5


class WorkUnderWay(ShardflowError):
    """Somebody else seems to do the same work at the same place."""


class Note(Owner, frozen=True, kw_only=True):
    """Who does what since when."""

    work: str
    before: tuple[str, ...] = ()  # files that are to go
    after: tuple[str, ...] = ()  # files that are to come
    ended: bool = False  # with an error, after something was changed


@dataclass(slots=True)
class Claim:
    """The right to work at a place, for as long as the process lives or the work takes."""

    store: Store
    path: str
    note: Note  # with what earlier runs noted, if they were killed

    def goes(self, before: Iterable[str], after: Iterable[str]) -> None:
        """Note which files are to be replaced by which, beside what earlier runs noted."""
        both = {*self.note.before, *before}, {*self.note.after, *after}
        self.note = msgspec.structs.replace(self.note, before=tuple(sorted(both[0])), after=tuple(sorted(both[1])))
        self.replaces(self._own())

    def replaces(self, stored: ObjectInfo) -> None:
        """Write the note over one that was seen; WorkUnderWay if that is not what is there any more."""
        try:
            put_over(self.store.transport, self.path, msgspec.json.encode(self.note), stored.etag)
        except (Changed, ObjectMissing):
            raise self._lost() from None

    def ends(self) -> None:
        """Take the note away; if it was taken over, it is another's to take away."""
        with contextlib.suppress(WorkUnderWay, Changed):
            own = self._own()
            self.store.transport.delete(own.key, if_match=own.etag)

    def gives_up(self) -> None:
        """Let others go on at once: with a note of what is half done, or without any if nothing was changed."""
        with contextlib.suppress(ShardflowError):  # what went wrong before is what the user has to know
            if self.note.after:
                self.note = msgspec.structs.replace(self.note, ended=True)
                self.replaces(self._own())
            else:
                self.ends()

    def _own(self) -> ObjectInfo:
        """The object of the note; WorkUnderWay if what is there is none of ours."""
        stored, now = _stored(self.store, self.path), _read(self.store, self.path)
        if stored is None or now is None or now.token != self.note.token:
            raise self._lost()
        return stored

    def _lost(self) -> WorkUnderWay:
        return WorkUnderWay(f"another run took {self.store.url.joined(self.path)} just now", remedy="wait for it")


@contextlib.contextmanager
def claimed(store: Store, path: str, work: str, *, take_over: bool = False) -> Iterator[Claim]:
    """Hold a place while the block runs; a note of what is half done then stays for the run that finishes it."""
    owner = new_owner()
    note = Note(work=work, **msgspec.structs.asdict(owner))
    try:
        store.config.check("delete", str(store.url))  # the note has to go in the end
        claim = _taken(store, path, note, take_over=take_over)
        try:
            yield claim
        except BaseException:
            claim.gives_up()
            raise
        claim.ends()
    finally:
        ended(owner)


def _taken(store: Store, path: str, note: Note, *, take_over: bool) -> Claim:
    claim = Claim(store, path, note)
    tries = _TRIES
    while True:
        try:
            store.put(io.BytesIO(msgspec.json.encode(note)), path, replace=False)
            return claim
        except PathTaken:
            stored = _stored(store, path)
            tries -= 1
            if stored is None and not tries:
                raise  # what is in the way is no note
        if stored is not None:  # otherwise its run ended just now, and the place is free again
            _take_over(claim, stored, even_if_alive=take_over)
            return claim


def _take_over(claim: Claim, stored: ObjectInfo, *, even_if_alive: bool) -> None:
    """Go on from what another run noted; `stored` was seen before that is read, so what comes later is left alone."""
    earlier = _read(claim.store, claim.path)
    if earlier is None:
        claim.replaces(stored)
        return
    if not even_if_alive and not earlier.ended and may_be_alive(earlier):
        raise WorkUnderWay(
            f"{claim.store.url.joined(claim.path)} says that process {earlier.process} of {earlier.host} has been at "
            f"this {earlier.work} since {_moment(earlier.started)}",
            remedy="wait for it, or take its place with --take-over (take_over=True) if it is gone",
        )
    claim.note = msgspec.structs.replace(claim.note, before=earlier.before, after=earlier.after)
    claim.replaces(stored)


def _stored(store: Store, path: str) -> ObjectInfo | None:
    """The object that is a note at the moment; None if there is none."""
    try:
        return store.transport.head(key_of(path))
    except ObjectMissing:
        return None


def _read(store: Store, path: str) -> Note | None:
    """The note of another run; None if it ended just now, or nobody can make sense of it."""
    try:
        with store.open(path) as file:
            return decoded(file.read(), Note)
    except (PathMissing, Undecodable):
        return None


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
