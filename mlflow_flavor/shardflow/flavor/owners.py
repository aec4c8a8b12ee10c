"""Which process works at a place of a store, as it notes there, and whether it may be alive still."""

from __future__ import annotations

import os
import platform
import secrets
import time
from pathlib import Path

import msgspec

_mine: set[str] = set()  # tokens of the work that this process does at the moment


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A process, and one piece of its work."""

    host: str
    process: int
    token: str
    started: float  # seconds since 1970
    space: str = ""  # of process numbers: containers of one host may have their own


def new_owner() -> Owner:
    """This process, for a new piece of its work, which is under way until it is said to have ended."""
    token = secrets.token_hex(8)
    _mine.add(token)
    return Owner(host=platform.node(), process=os.getpid(), token=token, started=time.time(), space=_space())


def ended(owner: Owner) -> None:
    """The work is done, or was given up."""
    _mine.discard(owner.token)


def may_be_alive(owner: Owner, patience: float | None = None) -> bool:
    """Whether an owner may be at work; nobody here can know of another machine, so `patience` in seconds ends that."""
    if owner.host != platform.node() or owner.space not in ("", _space()):
        return patience is None or time.time() - owner.started < patience
    return owner.token in _mine if owner.process == os.getpid() else runs(owner.process)


def runs(process: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # it is somebody else's
    return True


def _space() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # no Linux
        return ""
