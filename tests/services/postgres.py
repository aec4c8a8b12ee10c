"""PostgreSQL, a cluster of its own on loopback that is thrown away: Debian's package brings the programs.

Its server refuses to run as root, who therefore starts it as the user that the package made. Debian starts a cluster of
its own when the package is installed; this one has nothing to do with it.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from services.process import ServerProcess, as_user, clean_environment, free_port, run

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN = Path("/usr/lib/postgresql")
USER = "postgres"
SUPERUSER = "tester"
THROWN_AWAY = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running cluster, as a client sees it."""

    port: int
    password: str
    log: Path

    @property
    def url(self) -> str:
        """A database that all tests of a run share, as SQLAlchemy and MLflow write it."""
        return self._url("postgres")

    def new_database(self) -> str:
        """The URL of an empty database that nothing else uses."""
        import psycopg
        from psycopg import sql

        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql+psycopg://{SUPERUSER}:{self.password}@127.0.0.1:{self.port}/{database}"


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
    bin_directory, user = programs(), USER if os.geteuid() == 0 else None
    assert bin_directory is not None
    # Not below `home`: the directories of a test run are closed to all other users.
    place = Path(tempfile.mkdtemp(prefix="shardflow-postgres-"))
    try:
        postgres = Postgres(free_port(), secrets.token_hex(16), home / "postgres.log")
        _make_cluster(bin_directory, place, postgres, home, user)
        argv = [str(bin_directory / "postgres"), "-D", str(place / "data"), *_settings(postgres)]
        environment = clean_environment(place)
        # SIGINT does not wait for clients to leave, and a killed postmaster would leave shared memory behind.
        endings = {"stopped_by": signal.SIGINT, "orphaned": signal.SIGINT}
        with ServerProcess(argv, postgres.log, environment, user=user, **endings) as server:
            server.wait_until(lambda: _answers(postgres))
            yield postgres
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _make_cluster(bin_directory: Path, place: Path, postgres: Postgres, home: Path, user: str | None) -> None:
    password = place / "password"
    password.write_text(postgres.password)
    if user:
        for path in (place, password):
            shutil.chown(path, user, user)
    argv = [*as_user(user), str(bin_directory / "initdb"), "-D", str(place / "data"), "--username", SUPERUSER]
    argv += ["--pwfile", str(password), "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"]
    run(argv, home / "setup.log", clean_environment(place))


def _settings(postgres: Postgres) -> list[str]:
    settings = ("listen_addresses=127.0.0.1", f"port={postgres.port}", "unix_socket_directories=", *THROWN_AWAY)
    return [part for setting in settings for part in ("-c", setting)]


def _answers(postgres: Postgres) -> bool:
    import psycopg

    try:
        psycopg.connect(postgres.url.replace("+psycopg", ""), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
