"""The lock behind compare-and-swap on a directory: who waits for it, and what goes on without it."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from threading import Thread

import pytest

from shardflow.transport import Changed, Transport, TransportError
from transport.conftest import PACKAGE_ROOT, unfinished


def test_without_locks_only_what_needs_them_is_refused(
    root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    store.write("some", b"first", if_absent=True)
    info = store.write("some", b"second")
    with pytest.raises(TransportError, match="has no locks; mount it with flock"):
        store.write("some", b"third", if_match=info.etag)
    with pytest.raises(TransportError, match="has no locks"):
        store.delete("some", if_match=info.etag)
    assert store.read("some") == b"second"
    assert unfinished(root) == []


def test_the_lock_may_be_another_users(store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("some", b"first")
    real = os.open

    def only_readable(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).name == "lock" and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", only_readable)
    info = store.write("some", b"second")
    store.write("some", b"third", if_match=info.etag)
    assert store.read("some") == b"third"


def test_an_update_waits_for_the_one_before(root: Path, store: Transport) -> None:
    info = store.write("some", b"first")
    holder = os.open(root / ".incoming/lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    update = """
        import sys
        from shardflow.transport import *
        connect(StoreURL("file", sys.argv[1])).write("some", b"second", if_match=sys.argv[2])
    """
    command = [sys.executable, "-c", textwrap.dedent(update), str(root), str(info.etag)]
    waiting = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": PACKAGE_ROOT})
    time.sleep(0.5)
    assert waiting.poll() is None
    assert store.read("some") == b"first"
    os.close(holder)
    assert waiting.wait(20) == 0
    with pytest.raises(Changed):
        store.write("some", b"third", if_match=info.etag)


def test_plain_writes_share_the_lock_and_wait_for_who_looks_before_he_acts(root: Path, store: Transport) -> None:
    """Ten thousand small files from sixteen threads are held up by each other otherwise."""
    store.write("some", b"first")
    holder = os.open(root / ".incoming/lock", os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_SH)
    store.write("some", b"second")
    store.delete("some")
    fcntl.flock(holder, fcntl.LOCK_EX)
    writing = Thread(target=store.write, args=("some", b"third"))
    writing.start()
    writing.join(0.2)
    assert writing.is_alive()
    os.close(holder)
    writing.join(20)
    assert store.read("some") == b"third"
