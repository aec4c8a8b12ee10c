"""A note in the store that some work is under way there: a second run of it waits, and a later one knows of the first.

It lies beside what is worked on and goes when the work is done. What a killed run left is told by its note, so the
next run goes on from there. A note of a process that is gone counts for nothing else.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from shardflow.errors import ShardflowError
from shardflow.flavor.owners import Owner, ended, may_be_alive, new_owner
from shardflow.store.errors import PathMissing, PathTaken
from shardflow.store.store import Store


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
        self._write()

    def gives_up(self) -> None:
        """Let others go on at once: with a note of what is half done, or without any if nothing was changed."""
        with contextlib.suppress(ShardflowError):  # what went wrong before is what the user has to know
            if self.note.after:
                self.note = msgspec.structs.replace(self.note, ended=True)
                self._write()
            else:
                self.store.rm(self.path)

    def _write(self) -> None:
        self.store.put(io.BytesIO(msgspec.json.encode(self.note)), self.path)


@contextlib.contextmanager
def claimed(store: Store, path: str, work: str, *, take_over: bool = False) -> Iterator[Claim]:
    """Hold a place while the block runs; a note of what is half done then stays for the run that finishes it."""
    owner = new_owner()
    note = Note(work=work, **msgspec.structs.asdict(owner))
    try:
        claim = _taken(store, path, note, take_over=take_over)
        try:
            yield claim
        except BaseException:
            claim.gives_up()
            raise
        with contextlib.suppress(PathMissing):
            store.rm(path)
    finally:
        ended(owner)


def _taken(store: Store, path: str, note: Note, *, take_over: bool) -> Claim:
    try:
        store.put(io.BytesIO(msgspec.json.encode(note)), path, replace=False)
        return Claim(store, path, note)
    except PathTaken:
        earlier = _read(store, path)
    if earlier is not None and not take_over and not earlier.ended and may_be_alive(earlier):
        raise WorkUnderWay(
            f"{store.url.joined(path)} says that process {earlier.process} of {earlier.host} has been at this "
            f"{earlier.work} since {_moment(earlier.started)}",
            remedy="wait for it, or take its place with --take-over (take_over=True) if it is gone",
        )
    claim = Claim(store, path, note)
    claim.goes(earlier.before if earlier else (), earlier.after if earlier else ())
    now = _read(store, path)
    if now is None or now.token != note.token:
        raise WorkUnderWay(f"another run took {store.url.joined(path)} just now", remedy="wait for it")
    return claim


def _read(store: Store, path: str) -> Note | None:
    """The note of another run; None if it ended just now, or nobody can make sense of it."""
    try:
        with store.open(path) as file:
            return msgspec.json.decode(file.read(), type=Note)
    except (PathMissing, msgspec.MsgspecError):
        return None


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
