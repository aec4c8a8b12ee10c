"""What the file system refuses is told of the place, as an error of Shardflow: nobody gets a bare OSError."""

from __future__ import annotations

import ctypes
import io
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from shardflow.patch import apply, compare, create
from shardflow.store.errors import SourceUnusable, TargetUnusable
from shardflow.store.store import Store

LONG = "x" * 300


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.init(f"shardflow://memory/refusals-{tmp_path.name}")
    store.put(io.BytesIO(b"content"), "file")
    return store


def test_a_source_of_an_impossible_name_is_refused(store: Store, tmp_path: Path) -> None:
    for source in (tmp_path / LONG, tmp_path / LONG / "file"):
        with pytest.raises(SourceUnusable, match="cannot be read: File name too long; see what is there"):
            store.put(source, "other")


def test_an_empty_name_is_not_the_current_directory(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_bytes(b"not meant")
    monkeypatch.chdir(tmp_path)
    for act in (
        lambda: store.put("", "other"),
        lambda: create("", "here", "patch"),
        lambda: create("here", "", "patch"),
        lambda: compare("here", ""),
    ):
        with pytest.raises(SourceUnusable, match="an empty path names nothing; name a file or a directory"):
            act()
    assert [entry.path for entry in store.ls("")] == ["file"]


def test_a_target_of_an_impossible_name_is_refused(store: Store, tmp_path: Path) -> None:
    for target in (tmp_path / LONG, tmp_path / LONG / "file"):
        with pytest.raises(TargetUnusable, match="cannot be written: File name too long; choose another target"):
            store.get("file", target)


def test_a_patch_of_files_of_impossible_names_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    create(tmp_path / "file", tmp_path / "file", tmp_path / "patch")
    for make in (create, lambda old, new, _: compare(old, new)):
        for old, new in ((LONG, "file"), ("file", LONG)):
            with pytest.raises(SourceUnusable, match="x cannot be read: File name too long"):
                make(tmp_path / old, tmp_path / new, tmp_path / "other")
    with pytest.raises(TargetUnusable, match="x cannot be written: File name too long"):
        create(tmp_path / "file", tmp_path / "file", tmp_path / LONG)
    with pytest.raises(TargetUnusable, match="x cannot be written: File name too long"):
        apply(tmp_path / "file", tmp_path / "patch", tmp_path / LONG)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "patch"]


@pytest.mark.parametrize("read_before", [0, 3 << 20, 30 << 20])
def test_a_stream_that_breaks_is_told_however_much_of_it_was_read(store: Store, read_before: int) -> None:
    class Breaking(io.RawIOBase):
        left = read_before

        def readable(self) -> bool:
            return True

        def readinto(self, target: Any) -> int:
            if not self.left:
                raise OSError("the pipe broke")
            count = min(len(target), self.left)
            self.left -= count
            return count

    with pytest.raises(SourceUnusable, match="the stream cannot be read: the pipe broke; see to what it comes from"):
        store.put(io.BufferedReader(Breaking()), "other")


def without_root_rights() -> None:
    """Let file modes count for root too, from the next program on."""
    bounding_set_drop, override, read_search = 24, 1, 2
    for capability in (override, read_search):
        ctypes.CDLL(None).prctl(bounding_set_drop, capability, 0, 0, 0)


FORBIDDEN = """
    import io, sys
    import shardflow
    from shardflow import patch
    from shardflow.errors import ShardflowError
    here = sys.argv[1]
    shardflow.init(f"{here}/store")
    shardflow.put(io.BytesIO(b"content"), f"{here}/store/file")
    patch.create(f"{here}/file", f"{here}/file", f"{here}/patch")
    for act in (
        lambda: shardflow.put(f"{here}/shut/file", f"{here}/store/x"),
        lambda: shardflow.put(f"{here}/shut", f"{here}/store/x"),
        lambda: shardflow.put(f"{here}/listed", f"{here}/store/x"),
        lambda: patch.create(f"{here}/shut/file", f"{here}/file", f"{here}/made"),
        lambda: patch.compare(f"{here}/file", f"{here}/shut/file"),
        lambda: shardflow.get(f"{here}/store/file", f"{here}/shut/file"),
        lambda: shardflow.get(f"{here}/store/file", f"{here}/shut/new"),
        lambda: shardflow.get(f"{here}/store", f"{here}/shut/new"),
        lambda: patch.create(f"{here}/file", f"{here}/file", f"{here}/shut/made"),
        lambda: patch.apply(f"{here}/file", f"{here}/patch", f"{here}/shut/made"),
        lambda: patch.apply(f"{here}/file", f"{here}/patch", f"{here}/sealed/made"),
    ):
        try:
            act()
        except ShardflowError as error:
            print(type(error).__name__, str(error).replace(here, ""))
"""


def test_a_place_that_is_forbidden_is_named(tmp_path: Path) -> None:
    for directory, mode in (("shut", 0), ("listed", 0o444), ("sealed", 0o555)):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "file").write_bytes(b"content")
        (tmp_path / directory).chmod(mode)
    (tmp_path / "file").write_bytes(b"content")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORBIDDEN), str(tmp_path)],
        preexec_fn=without_root_rights,
        capture_output=True,
        text=True,
        check=False,
    )
    for directory in ("shut", "listed", "sealed"):
        (tmp_path / directory).chmod(0o755)
    assert done.stderr == ""
    denied, ask, choose = "Permission denied", "ask for the right to read it", "choose another target"
    assert done.stdout.splitlines() == [
        f"SourceUnusable /shut/file cannot be read: {denied}; {ask}",
        f"SourceUnusable /shut cannot be listed: {denied}; {ask}",
        f"SourceUnusable /listed/file cannot be read: {denied}; {ask}",
        f"SourceUnusable /shut/file cannot be read: {denied}; {ask}",
        f"SourceUnusable /shut/file cannot be read: {denied}; {ask}",
        f"TargetUnusable /shut/file cannot be written: {denied}; {choose}",
        f"TargetUnusable /shut/new cannot be written: {denied}; {choose}",
        f"TargetUnusable /shut/new/file cannot be written: {denied}; {choose}",
        f"TargetUnusable /shut/made cannot be written: {denied}; {choose}",
        f"TargetUnusable /shut/made cannot be written: {denied}; {choose}",
        f"TargetUnusable /sealed/made cannot be written: {denied}; {choose}",
    ]
    assert not (tmp_path / "made").exists()
