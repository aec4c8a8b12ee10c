"""PostgreSQL, a cluster of its own on loopback that is thrown away: Debian's package brings the programs.

Its server refuses to run as root, who therefore starts it as the user that the package made. Debian starts a cluster of
its own when the package is installed; this one has nothing to do with it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.database import ADMIN, Database, hand_over, instead_of_root, thrown_away
from services.process import ServerProcess, as_user, clean_environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN = Path("/usr/lib/postgresql")
USER = "postgres"
THROWN_AWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class Postgres(Database):
    """A running cluster."""

    @property
    def url(self) -> str:
        """A database that all tests of a run share."""
        return self.url_of("postgres")

    def create(self, name: str) -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(self._plain_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def url_of(self, name: str) -> str:
        return f"postgresql+psycopg://{ADMIN}:{self.password}@127.0.0.1:{self.port}/{name}"

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._plain_url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _plain_url(self) -> str:
        """As psycopg itself writes it."""
        return self.url.replace("+psycopg", "")


def programs() -> Path | None:
    """The directory of initdb and postgres: on PATH, or the newest of Debian's, which keeps them off it."""
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).parent
    found = [path.parent for path in DEBIAN.glob("*/bin/initdb") if (path.parent / "postgres").exists()]
    return max(found, key=lambda path: float(path.parent.name), default=None)


def missing() -> str | None:
    """Why PostgreSQL can not run here; None when it can."""
    if programs() is None:
        return "not installed; 'make services' installs it"
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        return "root needs setpriv to start it as another user"
    if os.geteuid() == 0 and not _exists(USER):
        return f"root can not start it, and there is no user {USER}"
    return None


@contextmanager
def running(home: Path) -> Iterator[Postgres]:
    """A cluster for as long as the context lasts."""
    bin_directory, user = programs(), instead_of_root(USER)
    assert bin_directory is not None
    postgres = Postgres.planned(home / "postgres.log")
    with thrown_away("postgres") as place:
        _make_cluster(bin_directory, place, postgres, home, user)
        argv = [str(bin_directory / "postgres"), "-D", str(place / "data"), *_settings(postgres)]
        # SIGINT does not wait for clients to leave, and a killed postmaster would leave shared memory behind.
        endings = {"stopped_by": signal.SIGINT, "orphaned": signal.SIGINT}
        with ServerProcess(argv, postgres.log, clean_environment(place), user=user, **endings) as server:
            server.wait_until(postgres.answers)
            yield postgres


def _make_cluster(bin_directory: Path, place: Path, postgres: Postgres, home: Path, user: str | None) -> None:
    password = place / "password"
    password.write_text(postgres.password)
    hand_over(user, place, password)
    argv = [*as_user(user), str(bin_directory / "initdb"), "-D", str(place / "data"), "--username", ADMIN]
    argv += ["--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
    run(argv, home / "setup.log", clean_environment(place))


def _settings(postgres: Postgres) -> list[str]:
    settings = ("listen_addresses=127.0.0.1", f"port={postgres.port}", "unix_socket_directories=", *THROWN_AWAY)
    return [part for setting in settings for part in ("-c", setting)]


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
