"""Which directory of the store a training writes its checkpoints to: the one it was interrupted in, or a new one.

Below the URL, a directory for the training and its inputs (`train-checkpoint-3f9c...`) has one for each attempt at it:
`1`, `2`. An attempt that came to its end has a `done.json`, and no later run touches it: commits name its checkpoints.
One without was interrupted, and the next run with the same inputs goes on in it, on whichever machine. Whoever writes
to an attempt holds its newest `claim-N.json`; of two that want it at once, the store lets one have it. Whether the
holder is still at it, another process tells by whether its process lives, and the same one by whether it has let go.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import msgspec
import psutil

from shardflow.errors import ShardflowError
from shardflow.store.errors import PathMissing, PathTaken
from shardflow.store.store import Store

DONE, RUN = "done.json", "mlflow.json"
_CLAIM = re.compile(r"claim-(\d{1,9})\.json")
_TRIES = 20


class AttemptTaken(ShardflowError):
    """No directory could be had: others took each one first."""


class Claim(msgspec.Struct, frozen=True):
    """The process that writes to an attempt."""

    host: str
    pid: int
    started: float
    token: str = ""  # of the training: the store takes equal claims of one process for the same file


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Attempt:
    """One run of a training, by its path in the store; whoever writes to it keeps this until it has left."""

    store: Store
    path: str
    token: str = field(default_factory=lambda: secrets.token_hex(8), compare=False)

    @property
    def url(self) -> str:
        return str(self.store.url.joined(self.path))

    def names(self) -> list[str]:
        try:
            return [entry.path.rpartition("/")[2] for entry in self.store.ls(self.path)]
        except PathMissing:
            return []

    def note(self, name: str, data: bytes, *, replace: bool = True) -> None:
        self.store.put(io.BytesIO(data), f"{self.path}/{name}", replace=replace)

    def noted(self, name: str) -> bytes:
        with self.store.open(f"{self.path}/{name}") as file:
            return file.read_at(0, file.size)

    def leave(self) -> None:
        """Let go of it: from now on, this process too may begin it again where it was interrupted."""
        _held.pop(self.token, None)


_held: WeakValueDictionary[str, Attempt] = WeakValueDictionary()
"""The attempts of this process that somebody is at, by their tokens: one that nobody keeps has nobody."""


def begun(store: Store, place: str, *, resume: bool) -> Attempt:
    """The attempt to write to, claimed for this process."""
    for _ in range(_TRIES):
        last = max(_numbers(store, place), default=0)
        interrupted, following = (Attempt(store, f"{place}/{number}") for number in (last, last + 1))
        claims = _claims_if_interrupted(interrupted) if last and resume else None
        if claims is not None and _claimed(interrupted, 1 + max(claims, default=0)):
            return interrupted
        if claims is None and _claimed(following, 1):
            return following
    raise AttemptTaken(f"others began all of {_TRIES} runs below {place} first", remedy="run it again")


def _numbers(store: Store, place: str) -> Iterator[int]:
    try:
        for entry in store.ls(place):
            name = entry.path.rpartition("/")[2]
            if entry.kind == "directory" and name.isascii() and name.isdigit():
                yield int(name)
    except PathMissing:
        return


def _claims_if_interrupted(attempt: Attempt) -> list[int] | None:
    """The numbers of an attempt's claims; None where it came to its end, or somebody is at it."""
    names = attempt.names()
    claims = sorted(int(found[1]) for name in names if (found := _CLAIM.fullmatch(name)))
    if DONE in names:
        return None
    if claims and _runs_here(msgspec.json.decode(attempt.noted(f"claim-{claims[-1]}.json"), type=Claim)):
        return None
    return claims


def _claimed(attempt: Attempt, number: int) -> bool:
    """Take the claim of that number, which follows those that were seen: nobody has come between, or it is taken."""
    mine = Claim(socket.gethostname(), os.getpid(), psutil.Process().create_time(), attempt.token)
    try:
        attempt.note(f"claim-{number}.json", msgspec.json.encode(mine), replace=False)
    except PathTaken:
        return False
    _held[attempt.token] = attempt
    return True


def _runs_here(claim: Claim) -> bool:
    """Whether its training still goes on, as far as can be told: on another machine it is taken to be gone."""
    if claim.host != socket.gethostname():
        return False
    if claim.pid == os.getpid():
        return claim.token in _held
    try:
        started: float = psutil.Process(claim.pid).create_time()
        return abs(started - claim.started) < 1
    except psutil.Error:
        return False
