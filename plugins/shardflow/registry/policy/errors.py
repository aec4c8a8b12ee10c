"""What is wrong with a policy file, and where in it."""

from __future__ import annotations

from shardflow.errors import ShardflowError


class PolicyInvalid(ShardflowError):
    """A policy says something that nobody can hold to; the place is that of the word at fault."""

    def __init__(self, name: str, line: int, column: int, problem: str, *, remedy: str = "") -> None:
        super().__init__(f"{name}:{line}:{column}: {problem}", remedy=remedy)
        self.line = line
        self.column = column


class PolicyUnreadable(ShardflowError):
    """The file of a policy cannot be read at all."""
