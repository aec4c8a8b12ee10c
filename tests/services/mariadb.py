"""MariaDB, which speaks MySQL's protocol, on loopback and thrown away.

Debian's packages mariadb-server-core and mariadb-client-core bring the programs, and start no server. Where root starts
it, it becomes the user nobody.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from services.database import ADMIN, Database, hand_over, instead_of_root, thrown_away
from services.process import ServerProcess, clean_environment, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAMS = ("mariadbd", "mariadb-install-db", "my_print_defaults")
USER = "nobody"
THROWN_AWAY = ("--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-buffer-pool-size=64M")


@dataclass(frozen=True, slots=True)
class MariaDb(Database):
    """A running server."""

    def create(self, name: str) -> None:
        with self._connection() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")

    def url_of(self, name: str) -> str:
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
    mariadb = MariaDb.planned(home / "mariadb.log")
    with thrown_away("mariadb") as place:
        user = _make(place, mariadb, home)
        argv = [str(_found("mariadbd")), "--no-defaults", f"--datadir={place}/data", f"--socket={place}/socket"]
        argv += [f"--port={mariadb.port}", "--bind-address=127.0.0.1", f"--init-file={place}/first.sql"]
        with ServerProcess([*argv, *THROWN_AWAY, *user], mariadb.log, clean_environment(place)) as server:
            server.wait_until(mariadb.answers)
            yield mariadb


def _make(place: Path, mariadb: MariaDb, home: Path) -> list[str]:
    """Its system tables, and a user who may do everything; the option that says whose process it is."""
    first = place / "first.sql"
    first.write_text(
        f"CREATE USER IF NOT EXISTS '{ADMIN}'@'%' IDENTIFIED BY '{mariadb.password}';\n"
        f"GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION;\n"
    )
    runs_it = instead_of_root(USER)
    hand_over(runs_it, place, first)
    user = [f"--user={runs_it}"] if runs_it else []
    argv = [str(_found("mariadb-install-db")), "--no-defaults", f"--datadir={place}/data", *user]
    argv += ["--skip-test-db", "--auth-root-authentication-method=normal"]
    run(argv, home / "setup.log", clean_environment(place))
    return user


def _found(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
