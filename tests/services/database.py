"""What the database servers have in common: a port, a password, a place that is thrown away, new databases."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from abc import ABC, abstractmethod
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from services.process import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ADMIN = "tester"


@dataclass(frozen=True, slots=True)
class Database(ABC):
    """A running server, as a client sees it."""

    port: int
    password: str
    log: Path

    @classmethod
    def planned(cls, log: Path) -> Self:
        """One that does not run yet, on a free port and with a password that nobody guesses."""
        return cls(free_port(), secrets.token_hex(16), log)

    def new_database(self) -> str:
        """The URL of an empty database that nothing else uses, as SQLAlchemy and MLflow write it."""
        name = f"test_{secrets.token_hex(6)}"
        self.create(name)
        return self.url_of(name)

    @abstractmethod
    def create(self, name: str) -> None:
        """Make an empty database."""

    @abstractmethod
    def url_of(self, name: str) -> str:
        """The URL of a database."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether clients are let in."""


@contextmanager
def thrown_away(name: str) -> Iterator[Path]:
    """A directory for a server's files, gone at the end.

    It is none of pytest's, which are closed to all other users, and whose paths are too long for a socket.
    """
    place = Path(tempfile.mkdtemp(prefix=f"shardflow-{name}-"))
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def instead_of_root(user: str) -> str | None:
    """Who runs a server that does not run as root; None, which is oneself, where a common user starts it."""
    return user if os.geteuid() == 0 else None


def hand_over(user: str | None, *paths: Path) -> None:
    """Let the user who runs the server have these files."""
    if user:
        for path in paths:
            shutil.chown(path, user)
