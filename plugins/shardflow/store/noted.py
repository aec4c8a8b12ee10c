"""Digests of whole files that a manifest notes beside its own, for programs that know files by them.

SHA-256 is what model-signing's command computes. Noting it while a file is read anyway spares reading it again when it
is signed; it costs about half a second of one core for each GB, so it is done where somebody asks for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from typing_extensions import Buffer

SHA256_VARIABLE = "SHARDFLOW_SHA256"

_asked = ContextVar("shardflow_sha256", default=False)


@contextmanager
def noting_sha256() -> Iterator[None]:
    """What is stored in this block notes its SHA-256."""
    token = _asked.set(True)
    try:
        yield
    finally:
        _asked.reset(token)


def sha256_wanted() -> bool:
    return _asked.get() or os.environ.get(SHA256_VARIABLE, "0") not in {"", "0"}


class Noted:
    """The digests of one file, while it is read."""

    def __init__(self, *, md5: bool, sha256: bool) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._sha256 = hashlib.sha256() if sha256 else None

    def update(self, data: Buffer) -> None:
        for each in (self._md5, self._sha256):
            if each:
                each.update(data)

    @property
    def md5(self) -> bytes | None:
        return self._md5.digest() if self._md5 else None

    @property
    def sha256(self) -> bytes | None:
        return self._sha256.digest() if self._sha256 else None
