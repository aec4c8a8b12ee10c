"""Parts of Shardflow that need what is installed only on request; a command says so where it is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shardflow.errors import ShardflowError


@contextmanager
def needing(extra: str, what: str) -> Iterator[None]:
    """Around the imports of something that `pip install 'shardflow[extra]'` provides for."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "shardflow":
            raise
        raise ShardflowError(
            f"{what} needs {error.name}, which is not installed", remedy=f"pip install 'shardflow[{extra}]'"
        ) from None
