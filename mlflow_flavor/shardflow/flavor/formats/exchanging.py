"""Puts a directory in the place of another, so that a kill at any moment leaves the old one or the new one.

Linux exchanges two names in one step. Where the system or the file system cannot, the old directory has a hidden name
for a moment; whoever comes to the place after a kill in that moment finds it there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from contextlib import suppress
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from shardflow.flavor.formats.errors import CheckpointExists

_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
_ASIDE = ".old"
MARK = 8  # hexadecimal digits, between a place's name and such an ending, that tell its writers apart


def put_in_place(made: Path, target: Path, *, replace: bool) -> None:
    """Give a directory its name; what had that name before is removed if it is to be replaced.

    A link makes place for the directory; what it points to is another's.
    """
    there = replace and os.path.lexists(target)
    if there and exchanged(made, target):
        _removed(made)
        return
    old = made.with_suffix(_ASIDE)
    if there:
        target.rename(old)
    try:
        made.rename(target)
    except OSError as error:
        if there:
            with suppress(OSError):
                old.rename(target)
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise CheckpointExists(f"{target} was made by somebody else meanwhile", remedy="use another path") from None
        raise
    if there:
        with suppress(FileNotFoundError):  # the next save removes it as well
            _removed(old)


def exchanged(one: Path, other: Path) -> bool:
    """Let two names stand for what the other stood for; False where that cannot be done in one step."""
    rename = _rename_with_flags()
    return rename is not None and rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0


def what_counts_at(place: Path) -> Path:
    """The place, or what was there, where a kill has left that under its hidden name."""
    if os.path.lexists(place):
        return place
    aside = _put_aside(place)
    return aside[-1] if aside else place


def put_back(place: Path) -> None:
    """Give what was there its name again, where a kill has left it without; what else was put aside is of no use."""
    aside = _put_aside(place)
    if aside and not os.path.lexists(place):
        aside.pop().rename(place)
    for old in aside:
        with suppress(OSError):
            _removed(old)


def _put_aside(place: Path) -> list[Path]:
    """What a place has had, the oldest first."""
    named = place.parent.glob(f".{escape(place.name)}.{'[0-9a-f]' * MARK}{_ASIDE}")
    return sorted(named, key=lambda old: old.lstat().st_mtime if os.path.lexists(old) else 0.0)


@cache
def _rename_with_flags() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _removed(old: Path) -> None:
    shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
