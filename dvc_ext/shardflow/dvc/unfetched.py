"""Keeps DVC from giving its name to a file that could not be fetched.

DVC notes a failed download inside of the block that moves its temporary file into place, and so moves what is there:
half a file, which its cache takes for the whole from then on, or nothing, which ends the command before the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from dvc_objects.fs import generic, utils

_failed: set[str] = set()


class _NotFetched(Exception):
    """There is nothing to move."""


def note(path: str) -> None:
    """A temporary file of DVC has not become what it was to be."""
    _failed.add(path)


@contextmanager
def moved_if_fetched(fs: Any, to_info: str, create_parents: bool = False) -> Iterator[str]:
    """DVC's own block; a temporary file that was noted is removed instead."""
    with suppress(_NotFetched), utils.as_atomic(fs, to_info, create_parents=create_parents) as place:
        yield place
        if place in _failed:
            _failed.discard(place)
            raise _NotFetched


def watch() -> None:
    """Have DVC's downloads use it; to those of other remotes it makes no difference."""
    generic.as_atomic = moved_if_fetched  # type: ignore[attr-defined]  # imported there for its own use
