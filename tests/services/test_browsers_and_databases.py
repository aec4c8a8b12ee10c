"""Chromium and PostgreSQL as tests have them: of their own, new each time, and gone at the end."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services import postgres as postgresql

if TYPE_CHECKING:
    from services.chromium import Browser
    from services.postgres import Postgres

PAGE = b"""<body><h1>A page</h1><a href=/file.bin download>Get it</a>
<script>document.title = localStorage.seen || "new"; localStorage.seen = "seen"</script>"""
FILE = bytes(range(256)) * 4096


class Site(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = FILE if self.path == "/file.bin" else PAGE
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream" if body is FILE else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_browser_shows_a_page_and_saves_a_file(browser: Browser, site: str, tmp_path: Path) -> None:
    browser.open(site)
    assert browser.find_text("A page").is_displayed()
    saved = browser.download(browser.find_text("Get it").click)
    assert (saved.name, saved.read_bytes()) == ("file.bin", FILE)
    assert browser.screenshot("a-page").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("visit", ["first", "second"])
def test_every_browser_is_a_new_one(browser: Browser, site: str, visit: str) -> None:
    browser.open(site)
    assert browser.driver.title == "new"


@pytest.mark.parametrize("visit", ["first", "second"])
def test_a_shared_browser_has_forgotten_what_it_saw(shared_browser: Browser, site: str, visit: str) -> None:
    shared_browser.open(site)
    assert shared_browser.driver.title == "new"
    shared_browser.open(site)
    assert shared_browser.driver.title == "seen"


def test_a_cluster_keeps_what_it_is_given(postgres: Postgres) -> None:
    import psycopg

    own, other = (url.replace("+psycopg", "") for url in (postgres.new_database(), postgres.new_database()))
    with psycopg.connect(own) as connection:
        connection.execute("CREATE TABLE kept (value TEXT)")
        connection.execute("INSERT INTO kept VALUES ('it')")
    with psycopg.connect(own) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [("it",)]
    with psycopg.connect(other) as connection, pytest.raises(psycopg.errors.UndefinedTable):
        connection.execute("SELECT value FROM kept")


def test_a_cluster_wants_its_password(postgres: Postgres) -> None:
    import psycopg

    guessed = postgres.url.replace("+psycopg", "").replace(postgres.password, "guessed")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(guessed)


def test_the_newest_of_the_installed_versions_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, programs in (("9.6", ("initdb", "postgres")), ("15", ("initdb", "postgres")), ("17", ("initdb",))):
        directory = tmp_path / version / "bin"
        directory.mkdir(parents=True)
        for program in programs:
            (directory / program).touch()
    monkeypatch.setattr(postgresql, "DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert postgresql.programs() == tmp_path / "15" / "bin"


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that other users reach, unlike those of pytest."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)
        yield Path(place)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.service("chromium")
@pytest.mark.service("postgres")
@pytest.mark.parametrize("module", ["chromium", "postgres"])
def test_a_killed_test_run_leaves_neither_behind(module: str, tmp_path: Path, open_to_all: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        f"from services import {module}\n"
        f"with {module}.running(Path(sys.argv[1])): print('up', flush=True); sys.stdin.read()"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(open_to_all)}
    argv = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        servers = descendants(parent.pid)
        parent.send_signal(signal.SIGKILL)
    assert len(servers) > 2
    deadline = time.monotonic() + 15
    while still := [pid for pid in servers if is_running(pid)]:
        assert time.monotonic() < deadline, still
        time.sleep(0.05)


def descendants(pid: int) -> set[int]:
    children = {
        int(child) for file in Path(f"/proc/{pid}/task").glob("*/children") for child in file.read_text().split()
    }
    return children.union(*map(descendants, children))


def is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:4]
    except (FileNotFoundError, ProcessLookupError):
        return False
