"""MariaDB, which speaks MySQL's protocol, on loopback and thrown away.

Debian's packages mariadb-server-core and mariadb-client-core bring the programs, and start no server. Where root starts
it, it becomes the user nobody.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.process import ServerProcess, clean_environment, free_port, run

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("mariadbd", "mariadb-install-db", "my_print_defaults")
USER = "nobody"
ADMIN = "tester"
THROWN_AWAY = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=64M")


@dataclass(frozen=True, slots=True)
class MariaDb:
    """A running server, as a client sees it."""

    port: int
    password: str
    log: Path

    def new_database(self) -> str:
        """The URL of an empty database that nothing else uses, as SQLAlchemy and MLflow write it."""
        name = f"test_{secrets.token_hex(6)}"
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return f"mysql+pymysql://{ADMIN}:{self.password}@127.0.0.1:{self.port}/{name}"

    def answers(self) -> bool:
        import pymysql

        try:
            self._connection().close()
        except pymysql.err.OperationalError:
            return False
        return True

    def _connection(self) -> Any:
        import pymysql

        return pymysql.connect(
            host="127.0.0.1", port=self.port, user=ADMIN, password=self.password, autocommit=True, connect_timeout=2
        )


def missing() -> str | None:
    """Why MariaDB can not run here; None when it can."""
    if any(_found(program) is None for program in PROGRAMS):
        return "not installed; 'make services' installs it"
    return None


@contextmanager
def running(home: Path) -> Iterator[MariaDb]:
    """A server for as long as the context lasts."""
    # Not below `home`: the directories of a test run are closed to all other users, and paths of sockets are short.
    place = Path(tempfile.mkdtemp(prefix="shardflow-mariadb-"))
    try:
        mariadb = MariaDb(free_port(), secrets.token_hex(16), home / "mariadb.log")
        _make(place, mariadb, home)
        argv = [str(_found("mariadbd")), "--no-defaults", f"--datadir={place}/data", f"--socket={place}/socket"]
        argv += [
            f"--port={mariadb.port}",
            "--bind-address=127.0.0.1",
            f"--init-file={place}/first.sql",
            *THROWN_AWAY,
            *_user(),
        ]
        with ServerProcess(argv, mariadb.log, clean_environment(place)) as server:
            server.wait_until(mariadb.answers)
            yield mariadb
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _make(place: Path, mariadb: MariaDb, home: Path) -> None:
    """Its system tables, and a user who may do everything."""
    first = place / "first.sql"
    first.write_text(
        f"CREATE USER IF NOT EXISTS '{ADMIN}'@'%' IDENTIFIED BY '{mariadb.password}';\n"
        f"GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION;\n"
    )
    if _user():
        for path in (place, first):
            shutil.chown(path, USER)
    argv = [str(_found("mariadb-install-db")), "--no-defaults", f"--datadir={place}/data", *_user()]
    argv += ["--skip-test-db", "--auth-root-authentication-method=normal"]
    run(argv, home / "setup.log", clean_environment(place))


def _user() -> list[str]:
    return [f"--user={USER}"] if os.geteuid() == 0 else []


def _found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
