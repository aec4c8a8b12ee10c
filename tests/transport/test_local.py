"""The `file` backend's own promises: nothing lost in a crash, nothing left half-written, names kept apart."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from shardflow.transport import AlreadyThere, NameTaken, ObjectMissing, StoreURL, Transport, connect
from transport.conftest import run_python, unfinished


def make_strange(kind: str, place: Path, beside: Path) -> None:
    """Something that has a name in a directory, and no bytes to read."""
    pipe = beside / "pipe"
    if kind == "link to a pipe" and not pipe.exists():
        os.mkfifo(pipe)
    match kind:
        case "pipe":
            os.mkfifo(place)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(os.path.relpath(place))  # as short as can be
        case "link to a pipe":
            place.symlink_to(pipe)
        case "link to a device":
            place.symlink_to(os.devnull)
        case "link to nothing":
            place.symlink_to("nowhere")


class TestDurability:
    def test_data_is_on_the_disk_before_its_name_and_the_name_before_the_return(
        self, root: Path, store: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.write("tree/first", b"")  # makes the directories
        steps: list[str] = []
        fsync, rename = os.fsync, os.rename

        def noted_fsync(fd: int) -> None:
            steps.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else "data")
            fsync(fd)

        def noted_rename(path: str, target: str) -> None:
            steps.append("name")
            rename(path, target)

        monkeypatch.setattr(os, "fsync", noted_fsync)
        monkeypatch.setattr(os, "rename", noted_rename)
        store.write("tree/some", b"data")
        assert steps == ["data", "name", "directory"]

    def test_new_directories_are_forced_to_the_disk_too(self, root: Path, store: Transport, forced: list[str]) -> None:
        store.write("a/b/c", b"data")
        for directory in (root.parent, root, root / "a", root / "a/b"):
            assert str(directory) in forced

    def test_a_file_system_that_cannot_sync_directories_is_put_up_with(
        self, store: Transport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fsync = os.fsync

        def files_only(fd: int) -> None:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "Invalid argument")
            fsync(fd)

        monkeypatch.setattr(os, "fsync", files_only)
        store.write("tree/some", b"data")
        assert store.read("tree/some") == b"data"

    def test_it_can_be_switched_off(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHARDFLOW_FSYNC", "0")
        store = connect(StoreURL("file", str(root)))
        monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("fsync was called"))
        store.write("tree/some", b"data")
        assert store.delete("tree/some")

    def test_files_have_the_rights_that_the_umask_gives(self, root: Path, store: Transport) -> None:
        before = os.umask(0o027)
        try:
            store.write("tree/some", b"data")
        finally:
            os.umask(before)
        assert stat.S_IMODE((root / "tree/some").stat().st_mode) == 0o640


class TestNames:
    def test_a_store_that_is_a_file_is_refused(self, root: Path, store: Transport) -> None:
        root.write_text("not a directory")
        with pytest.raises(NameTaken, match="a file stands where a directory is needed"):
            store.write("some", b"data")
        with pytest.raises(ObjectMissing):
            store.read("some")

    def test_a_file_and_a_directory_cannot_share_a_name(self, store: Transport) -> None:
        store.write("tree/a", b"file")
        store.write("tree/d/b", b"file in directory")
        with pytest.raises(NameTaken):
            store.write("tree/a/b", b"below a file")
        with pytest.raises(NameTaken):
            store.write("tree/d", b"in place of a directory")
        with pytest.raises(ObjectMissing):
            store.read("tree/a/b")
        with pytest.raises(ObjectMissing):
            store.read("tree/d")
        with pytest.raises(ObjectMissing):
            store.head("tree/d")
        assert store.delete("tree/d") is False

    def test_a_store_that_is_not_there_is_empty(self, root: Path, store: Transport) -> None:
        with pytest.raises(ObjectMissing):
            store.read("shardflow.json")
        assert not list(store.list())
        assert store.list_names() == ([], [])
        assert store.delete("some") is False
        assert not root.exists()

    def test_a_link_to_a_store_leads_to_it(self, root: Path, store: Transport, tmp_path: Path) -> None:
        store.write("tree/some", b"data")
        (tmp_path / "link").symlink_to(root)
        through = connect(StoreURL("file", str(tmp_path / "link")))
        assert through.read("tree/some") == b"data"
        assert [info.key for info in through.list()] == ["tree/some"]

    @pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe", "link to a device", "link to nothing"])
    def test_what_is_no_file_is_no_object(self, root: Path, store: Transport, tmp_path: Path, kind: str) -> None:
        """Opening a pipe would wait for somebody who writes to it."""
        store.write("tree/some", b"data")
        (root / "tree/d").mkdir()
        for strange in (root / "tree/other", root / "tree/d/other"):
            make_strange(kind, strange, tmp_path)
        assert store.list_names("tree") == ([], ["some"])
        assert [info.key for info in store.list()] == ["tree/some"]
        for look in (store.read, store.head, lambda key: store.read_range(key, 0, 1)):
            with pytest.raises(ObjectMissing, match="it is not there"):
                look("tree/other")

    def test_a_copied_store_can_be_written_and_deleted_from(self, root: Path) -> None:
        (root / "tree").mkdir(parents=True)
        (root / "tree/some").write_bytes(b"copied")
        store = connect(StoreURL("file", str(root)))
        assert store.delete("tree/some", if_match=store.head("tree/some").etag) is True


class TestVersions:
    def test_etags_differ_even_where_inodes_are_used_again(self, root: Path, store: Transport) -> None:
        etags = {store.write("some", b"same size").etag for _ in range(200)}
        assert len(etags) == 200

    def test_creating_needs_no_hard_links(self, store: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
        def no_links(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_links)
        store.write("some", b"first", if_absent=True)
        with pytest.raises(AlreadyThere):
            store.write("some", b"second", if_absent=True)
        assert store.read("some") == b"first"


class TestLeftovers:
    def test_a_killed_writer_leaves_only_a_file_that_can_be_swept_up(self, root: Path, store: Transport) -> None:
        done = run_python(
            """
            write = os.write
            def killed_half_way(fd, data):
                write(fd, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            os.write = killed_half_way
            store.write("packs/ab/1", bytes(1000))
            """,
            str(root),
        )
        assert done.returncode == -signal.SIGKILL
        assert not list(store.list())
        assert store.list_names() == ([], [])
        assert store.stale_temporaries(3600) == []
        stale = store.stale_temporaries(-1)
        assert [info.size for info in stale] == [500]
        assert len(unfinished(root)) == 1
        assert store.stale_temporaries(-1, remove=True) == stale
        assert unfinished(root) == []

    def test_other_backends_have_no_leftovers(self) -> None:
        memory = connect(StoreURL.parse("shardflow://memory/leftovers"))
        assert memory.stale_temporaries(-1, remove=True) == []
