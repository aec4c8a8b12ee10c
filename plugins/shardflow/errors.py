"""The root of every error Shardflow raises on purpose: what happened, on what, and what to do about it."""

from __future__ import annotations


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
