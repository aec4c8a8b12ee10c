"""Where one process, or one group of them, writes a checkpoint: a directory of its own that no other writes to.

A checkpoint has a place in the store, and counts as soon as a marker there names the directory its files are in. Each
attempt at it claims a directory with a file that the store lets only one have, and holds it until it is done. What is
in a directory that the marker does not name and nobody holds was left behind, and goes with the next save. The place
itself is used again once it is empty, so who empties it holds it too; no other directory ever is.
"""

from __future__ import annotations

import gc
import io
import re
import secrets
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import msgspec

from shardflow.errors import CorruptData, ShardflowError
from shardflow.flavor.checkpointing import files
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.owners import Owner, ended, may_be_alive, new_owner
from shardflow.store.errors import PathMissing, PathTaken
from shardflow.store.paths import key_of
from shardflow.store.small import put_over
from shardflow.store.store import Store
from shardflow.transport import AlreadyThere, Changed, ObjectMissing

CLAIM_FILE = "writer.json"

_AGAIN = "again-"
_INSIDE = re.compile(rf"(?:({_AGAIN}[1-9]\d{{0,8}})/)?([^/]+)")
_TRIES = 5


class PlaceCrowded(ShardflowError):
    """Others took every directory first."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a checkpoint is in a store, or is to be."""

    store: Store
    path: str
    marker: str  # the name of the file that makes it complete
    ours: re.Pattern[str]  # names of files of checkpoints, where the place may have others

    @property
    def marker_path(self) -> str:
        return self.inside(self.marker)

    def inside(self, *names: str) -> str:
        return "/".join(name for name in (self.path, *names) if name)

    def files(self) -> dict[str, str]:
        """The paths of all files of checkpoints but the marker, and the directories that they are in."""
        start = len(self.path) + 1 if self.path else 0
        matches = {path: _INSIDE.fullmatch(path[start:]) for path in files.below(self.store, self.path)}
        mine = {path: match for path, match in matches.items() if match and self._is_ours(path, match[2])}
        return {path: match[1] or "" for path, match in mine.items()}

    def _is_ours(self, path: str, name: str) -> bool:
        return path != self.marker_path and (name == CLAIM_FILE or self.ours.fullmatch(name) is not None)


@dataclass(slots=True, weakref_slot=True)
class Attempt:
    """The right to write to a directory; a context manager that gives it back. It ends as well if all forget it."""

    place: Place
    directory: str  # below the place, which it is itself if this is empty
    owner: Owner

    def __post_init__(self) -> None:
        weakref.finalize(self, ended, self.owner)

    @property
    def path(self) -> str:
        return self.place.inside(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """What there is counts now, or is nobody's."""
        try:
            files.forget(self.place.store, [self.place.inside(self.directory, CLAIM_FILE)])
        except ShardflowError:
            pass  # whoever comes next sees that this process is not at it any more
        finally:
            ended(self.owner)


def begun(place: Place) -> Attempt:
    """A directory for this process alone: the place itself, where nothing is yet."""
    owner = new_owner()
    try:
        return Attempt(place, _claimed(place, owner), owner)
    except BaseException:
        ended(owner)
        raise


def swept(place: Place, used: Callable[[], str | None], settled: str | None = None) -> None:
    """Remove what was left behind; `used` reads the marker, and says which directory it names.

    The order matters. A file that was seen has been claimed before, so if its claim is not seen afterwards, the attempt
    had ended by then, and if it was successful, the marker that is read last names its directory, or a later one.
    """
    seen = place.files()
    if set(seen.values()) <= {settled}:
        return
    held = _held(place)
    if held:
        gc.collect()  # an attempt that failed may hang in a circle with its error, and is nobody's all the same
        held = _held(place)
    left = set(seen.values()) - {used(), *held}
    files.forget(place.store, sorted(path for path, directory in seen.items() if directory and directory in left))
    if "" in left:
        _empty_itself(place, used)


def is_directory(name: str) -> bool:
    """Whether a text that was read is the name of such a directory, or nothing."""
    return not name or _INSIDE.fullmatch(f"{name}/x") is not None


def _claimed(place: Place, owner: Owner) -> str:
    directory = "" if _is_empty(place) else _new_name()
    for _ in range(_TRIES):
        claim = place.inside(directory, CLAIM_FILE)
        try:
            place.store.put(io.BytesIO(msgspec.json.encode(owner)), claim, replace=False)
        except PathTaken:
            directory = _new_name()
            continue
        # Since the first look another may have claimed the place, filled it, and given its claim back.
        if directory or _is_empty(place, but_for=claim):
            return directory
        files.forget(place.store, [claim])
        directory = _new_name()
    raise PlaceCrowded(f"others save to {place.store.url.joined(place.path)} all the time", remedy="save elsewhere")


def _empty_itself(place: Place, used: Callable[[], str | None]) -> None:
    """Remove what was left in the place itself, unless others are at it, or what is there counts by now."""
    owner = new_owner()
    try:
        if not _taken_over(place, owner):
            return
        with Attempt(place, "", owner):
            if used() != "":
                claim = place.inside(CLAIM_FILE)
                here = (path for path, directory in place.files().items() if not directory and path != claim)
                files.forget(place.store, sorted(here))
    finally:
        ended(owner)


def _taken_over(place: Place, owner: Owner) -> bool:
    """Claim the place itself, of which there may be a claim that nobody stands behind any more.

    Others may be about to do the same, or have done so and saved here since: only the claim that was seen is replaced.
    """
    claim, transport = place.inside(CLAIM_FILE), place.store.transport
    try:
        seen = transport.head(key_of(claim)).etag
    except ObjectMissing:
        seen = None
    if _is_held(place.store, claim):
        return False
    try:
        put_over(transport, claim, msgspec.json.encode(owner), seen)
    except (AlreadyThere, Changed, ObjectMissing):
        return False
    return True


def _is_empty(place: Place, but_for: str = "") -> bool:
    return place.files().keys() <= {but_for} and not files.below(place.store, place.marker_path)


def _new_name() -> str:
    """One that no directory had before: who removes what another left must not hit what a third just wrote."""
    return f"{_AGAIN}{1 + secrets.randbelow(999_999_999)}"


def _held(place: Place) -> set[str]:
    """Directories that somebody may be writing to."""
    claims = {path: name for path, name in place.files().items() if path.rpartition("/")[2] == CLAIM_FILE}
    return {name for path, name in claims.items() if _is_held(place.store, path)}


def _is_held(store: Store, path: str) -> bool:
    try:
        owner = decoded(files.read_small(store, path), Owner)
    except PathMissing:
        return False
    except (Undecodable, CorruptData):
        return False  # no claim that one of us made
    return may_be_alive(owner, store.config.settings.gc_grace_seconds)
