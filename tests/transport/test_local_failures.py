"""The `file` backend when the system refuses: each refusal by its name, with nothing left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from shardflow.transport import AccessDenied, NoSpace, ReadOnlyTarget, StoreURL, Transport, TransportError, connect
from transport.conftest import run_python, unfinished


def test_a_disk_that_fills_up_leaves_nothing_behind(
    root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write("some", b"before")
    write = os.write
    left = [1000]

    def write_until_full(fd: int, data: memoryview) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(fd, data[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(os, "write", write_until_full)
    with pytest.raises(NoSpace, match=r"cannot write some .*: no space left on device; free some space"):
        store.write("some", bytes(5000))
    assert store.read("some") == b"before"
    assert unfinished(root) == []
    assert store.totals.retries == 0


def test_a_file_that_a_limit_forbids_leaves_nothing_behind(root: Path) -> None:
    done = run_python(
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        store.write("small", bytes(100_000))
        try:
            store.write("large", bytes(100_001))
        except NoSpace as error:
            print(error)
        """,
        str(root),
    )
    assert "cannot write large" in done.stdout, done.stderr
    assert "ulimit -f" in done.stdout
    assert unfinished(root) == []
    assert sorted(path.name for path in root.iterdir()) == [".incoming", "small"]


def test_a_sync_that_fails_fails_the_write(root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    store.write("first", b"")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoSpace, match="quota"):
        store.write("some", b"data")
    assert unfinished(root) == []
    assert not (root / "some").exists()


def test_a_directory_without_the_right_to_write_is_read_only() -> None:
    with TemporaryDirectory() as above:  # pytest's own directories are closed to other users
        Path(above).chmod(0o755)
        root = Path(above) / "store"
        connect(StoreURL("file", str(root))).write("tree/some", b"data")
        for path in (root, root / "tree", root / ".incoming"):
            path.chmod(0o555)
        done = run_python(
            """
            if os.getuid() == 0:  # whom no rights bind
                os.setuid(65534)
            print(bytes(store.read("tree/some")))
            for call in (lambda: store.write("tree/other", b""), lambda: store.delete("tree/some")):
                try:
                    call()
                except ReadOnlyTarget as error:
                    print(error)
            """,
            str(root),
        )
        for path in (root, root / "tree", root / ".incoming"):
            path.chmod(0o755)
    lines = done.stdout.splitlines()
    assert lines[0] == "b'data'", done.stderr
    assert "cannot write tree/other" in lines[1]
    assert "permission denied; make the directory writable or name another store" in lines[1]
    assert "cannot delete tree/some" in lines[2]


@pytest.mark.parametrize(
    ("number", "kind", "told"),
    [
        (errno.EROFS, ReadOnlyTarget, "read-only file system; make the directory writable"),
        (errno.EACCES, ReadOnlyTarget, "permission denied"),
        (errno.ENAMETOOLONG, TransportError, "file name too long; use a shorter path"),
        (errno.EIO, TransportError, "input/output error"),
    ],
)
def test_what_the_system_refuses_is_told_by_name(
    store: Transport, number: int, kind: type[TransportError], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    store.write("some", b"data")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(kind, match=told) as raised:
        store.write("some", b"data")
    assert "\n" not in str(raised.value)
    assert store.totals.retries == 0


def test_reading_without_the_right_is_denied(store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(AccessDenied, match="cannot read some"):
        store.read("some")


def test_a_hiccup_of_a_network_disk_passes(store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("some", b"data")
    preadv, stale = os.preadv, [OSError(errno.ESTALE, "Stale file handle")] * 2

    def read(fd: int, buffers: list[memoryview], at: int) -> int:
        if stale:
            raise stale.pop()
        return preadv(fd, buffers, at)

    monkeypatch.setattr(os, "preadv", read)
    assert store.read("some") == b"data"
    assert store.totals.retries == 2


def test_short_reads_of_the_kernel_are_put_together(store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write("some", b"0123456789")
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, at: preadv(fd, [buffers[0][:3]], at))
    assert store.read("some") == b"0123456789"
    assert store.read_range("some", 2, 7) == b"2345678"
