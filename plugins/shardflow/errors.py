"""The root of every error Shardflow raises on purpose: what happened, on what, and what to do about it."""

from __future__ import annotations

import re

# `://user:password@`; the password may have slashes in it, and a path that was made of the URL has one slash less.
_USER = re.compile(r"(:/{1,2})(?:(?<=//)[^\s/?#]*|[^\s/:@]*:(?!\d+/)[^\s@]*)@")


class ShardflowError(Exception):
    """An expected failure, told in one line; `remedy` is the part that says what to do next."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class CorruptData(ShardflowError):
    """Bytes that were read are not the bytes that were written."""


class Cancelled(ShardflowError):
    """The work was stopped on request (Ctrl-C, or a failure elsewhere in the same operation)."""


def without_passwords(text: str) -> str:
    """A text as errors may repeat it: the URLs in it lose their user and password."""
    return _USER.sub(r"\1", text)
