"""Tells DVC and fsspec what went wrong in a store, in the kinds of error that each of them knows how to show."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from shardflow.errors import ShardflowError
from shardflow.store.errors import PathMissing, PathTaken, StoreMissing

if TYPE_CHECKING:
    from dvc.exceptions import DvcException


@contextmanager
def as_dvc_tells(path: str = "") -> Iterator[None]:
    """Failures of a store become OSErrors where that says it all, and otherwise one line that DVC shows as it is."""
    try:
        yield
    except ShardflowError as error:
        # Not its cause: DVC would tell that as well, down to the last word of the server.
        raise refusal(error, path)  # noqa: B904


def refusal(error: ShardflowError, path: str = "") -> Exception:
    """The same failure as DVC tells it."""
    if isinstance(error, PathMissing | StoreMissing):
        return FileNotFoundError(errno.ENOENT, str(error), path)
    if isinstance(error, PathTaken):
        return IsADirectoryError(errno.EISDIR, str(error), path)
    failed: Exception = _failure()(str(error))
    return failed


@cache
def _failure() -> type[DvcException]:
    from dvc.exceptions import DvcException  # noqa: PLC0415  # fsspec's users may do without DVC

    class StoreFailed(DvcException):  # type: ignore[misc]
        """What a store had to say."""

    return StoreFailed
