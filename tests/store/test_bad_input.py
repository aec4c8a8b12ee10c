"""Bad input of every kind gets one clear error or a correct result; nothing is lost or half visible."""

from __future__ import annotations

import ctypes
import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
import pytest

import shardflow
from shardflow.errors import ShardflowError
from shardflow.store.config import CONFIG_KEY, encode_config
from shardflow.store.errors import (
    BadPath,
    ChunkDamaged,
    FormatUnknown,
    ManifestDamaged,
    PackMissing,
    SourceChanged,
    SourceUnusable,
    StoreExists,
    StoreMissing,
    TargetUnusable,
)
from shardflow.store.manifest import Manifest, encode_manifest
from shardflow.store.store import Store
from shardflow.transport import AccessDenied, NoSpace, ReadOnlyTarget, WrongURL
from store.samples import manifest_from_the_future

CONTENT = np.random.default_rng(11).integers(0, 256, 200_000, dtype=np.uint8).tobytes()


@pytest.fixture
def filled(store: Store) -> Store:
    store.put(io.BytesIO(CONTENT), "model.bin")
    return store


def alter(store: Store, key: str, change: slice | None, size: int | None = None) -> None:
    data = bytearray(store.transport.read(key))
    if change is not None:
        data[change] = bytes(byte ^ 1 for byte in data[change])
    store.transport.delete(key)
    store.transport.write(key, bytes(data[:size]))


def pack_keys(store: Store) -> list[str]:
    """The packs, the largest first."""
    return [info.key for info in sorted(store.transport.list("packs/"), key=lambda info: -info.size)]


def test_a_missing_store_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing, match=r"there is no store at .*nowhere.* or above it; make one with"):
        shardflow.get(str(tmp_path / "nowhere/model"), tmp_path / "x")


@pytest.mark.parametrize(
    "url",
    [
        "shardflow:///data",
        "shardflow+s3://bucket/x",
        "shardflow://ftp/x",
        "s3://bucket/x",
        "shardflow://s3/",
        "",
        "a/../..",
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_touched(url: str) -> None:
    with pytest.raises((WrongURL, StoreMissing)):
        shardflow.ls(url)


def test_a_second_store_in_or_on_a_store_is_refused(store_url: str, store: Store) -> None:
    with pytest.raises(StoreExists, match="already"):
        Store.init(store_url)
    with pytest.raises(StoreExists, match="already"):
        Store.init(store_url + "/deeper")


def test_a_store_that_lost_its_configuration_is_not_made_anew_over_its_content(filled: Store, store_url: str) -> None:
    filled.transport.delete(CONFIG_KEY)
    with pytest.raises(StoreExists, match="gone"):
        Store.init(store_url)


def test_a_store_from_the_future_is_refused_by_name(filled: Store, store_url: str) -> None:
    filled.transport.write(CONFIG_KEY, b'{"format": 2, "surprise": true}')
    later, _ = Store.find(store_url)
    for act in (lambda: later.open("model.bin"), lambda: later.put(io.BytesIO(b"x"), "x"), lambda: later.rm("x")):
        with pytest.raises(FormatUnknown, match="format 2, and this Shardflow knows up to 1; upgrade Shardflow"):
            act()


def test_a_put_touches_nothing_where_the_id_of_a_store_leads(filled: Store, store_url: str, tmp_path: Path) -> None:
    """Whoever may write to a store may write its id, and names of git's files end as those of the journal do."""
    mine = tmp_path / "repository/mine.pack"
    mine.parent.mkdir()
    mine.write_bytes(b"not a note")
    hostile = msgspec.structs.replace(filled.config, id=str(mine.parent))
    filled.transport.write(CONFIG_KEY, encode_config(hostile))
    with pytest.raises(ManifestDamaged, match="id"):
        shardflow.put(io.BytesIO(CONTENT[::-1]), f"{store_url}/other.bin")
    assert [path.name for path in mine.parent.iterdir()] == ["mine.pack"]


def test_a_feature_unknown_for_writing_still_lets_read(filled: Store, store_url: str) -> None:
    config = bytes(filled.transport.read(CONFIG_KEY)).replace(b'"requires": {}', b'"requires": {"write": ["quantum"]}')
    filled.transport.write(CONFIG_KEY, config)
    later, _ = Store.find(store_url)
    assert later.open("model.bin").read() == CONTENT
    with pytest.raises(FormatUnknown, match="needs quantum"):
        later.put(io.BytesIO(b"x"), "x")


@pytest.mark.parametrize("where", [30, 5_000, 60_000])
def test_a_flipped_bit_in_a_pack_is_named_and_never_returned(filled: Store, tmp_path: Path, where: int) -> None:
    alter(filled, pack_keys(filled)[0], slice(where, where + 1))

    with pytest.raises(ChunkDamaged, match=r"chunk [0-9a-f]{16} of model.bin in pack [0-9a-f]{16} is damaged"):
        filled.get("model.bin", tmp_path / "model.bin")
    with pytest.raises(ChunkDamaged):
        filled.open("model.bin").read()
    assert not (tmp_path / "model.bin").exists()


def test_a_truncated_pack_is_named(filled: Store, tmp_path: Path) -> None:
    for key in pack_keys(filled):
        alter(filled, key, None, 1000)
    with pytest.raises(ChunkDamaged, match=r"chunk [0-9a-f]{16} of model.bin in pack .* the pack is cut short"):
        filled.get("model.bin", tmp_path / "model.bin")
    assert not (tmp_path / "model.bin").exists()


def test_a_deleted_pack_is_named(filled: Store, tmp_path: Path) -> None:
    for key in pack_keys(filled):
        filled.transport.delete(key)
    with pytest.raises(PackMissing, match=r"pack [0-9a-f]{16} of model.bin is not in the store"):
        filled.get("model.bin", tmp_path / "model.bin")


@pytest.mark.parametrize("data", [b"", b"garbage", b"SHFLMF\x00\x01" + bytes(40)])
def test_a_manifest_that_is_not_valid_is_named(filled: Store, tmp_path: Path, data: bytes) -> None:
    filled.transport.write("tree/model.bin", data)
    with pytest.raises(ManifestDamaged, match=r"the manifest of model.bin"):
        filled.get("model.bin", tmp_path / "model.bin")


def test_a_manifest_from_the_future_is_refused(filled: Store) -> None:
    filled.transport.write("tree/model.bin", manifest_from_the_future())
    with pytest.raises(FormatUnknown, match="from the future"):
        filled.open("model.bin")


@pytest.mark.parametrize("key", ["tree/m/%2E%2E%2Fescaped", "tree/m/%2e%2e/x", "tree/m/a%2Fb", "tree/m/%00"])
def test_a_name_that_leads_outside_of_the_target_is_refused(filled: Store, tmp_path: Path, key: str) -> None:
    filled.transport.write(key, encode_manifest(Manifest(4, bytes(32), inline=b"evil")))
    (tmp_path / "in").mkdir()
    with pytest.raises(BadPath):
        filled.get("m", tmp_path / "in/target")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"evil"] == []


def test_a_link_in_the_target_is_not_followed_outside(filled: Store, tmp_path: Path) -> None:
    filled.put(io.BytesIO(b"secret"), "m/link/file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target/link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BadPath, match="leads outside"):
        filled.get("m", tmp_path / "target")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_source_that_changes_while_it_is_read_is_not_stored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    from shardflow.store import writer

    original = writer.Writer._place

    def meddling(self: writer.Writer, *arguments: object) -> int:
        with source.open("r+b") as file:
            file.seek(10)
            file.write(b"changed")
        os.utime(source, ns=(1, 1))
        return original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(writer.Writer, "_place", meddling)
    with pytest.raises(SourceChanged, match=r"source.bin changed while it was being read; run it again"):
        store.put(source, "model.bin")
    assert list(store.ls("")) == []


def test_a_source_that_shrinks_is_not_stored(store: Store, tmp_path: Path) -> None:
    from shardflow.store.sources import FileSource, file_source

    source = tmp_path / "source.bin"
    source.write_bytes(CONTENT)
    found = file_source(source, "x")
    source.write_bytes(CONTENT[:1000])
    with pytest.raises(SourceChanged):
        FileSource("x", source, found.found).open()


def test_sources_that_cannot_be_stored_are_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop/again").symlink_to(tmp_path / "loop")
    with pytest.raises(SourceUnusable, match="does not exist"):
        store.put(tmp_path / "nothing", "x")
    with pytest.raises(SourceUnusable, match="is a link to nothing"):
        store.put(tmp_path / "broken", "x")
    with pytest.raises(SourceUnusable, match="neither a file nor a directory"):
        store.put(tmp_path / "fifo", "x")
    with pytest.raises(SourceUnusable, match="links back"):
        store.put(tmp_path / "loop", "x")


def test_a_target_without_space_is_refused_before_anything_is_fetched(
    filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fstatvfs

    def full(descriptor: int) -> os.statvfs_result:
        status = list(real(descriptor))
        status[4] = 1  # f_bavail
        return os.statvfs_result(status)

    monkeypatch.setattr(os, "fstatvfs", full)
    with pytest.raises(TargetUnusable, match=r"needs 200000 bytes, and \d+ are free"):
        filled.get("model.bin", tmp_path / "model.bin")


LIMITED = """
    import io, resource, signal, sys
    from shardflow.store.store import Store
    from shardflow.errors import ShardflowError
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store, _ = Store.find(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        if sys.argv[2] == "put":
            store.put(io.BytesIO(bytes(range(256)) * 40 + __import__("os").urandom(3_000_000)), "big.bin")
        else:
            store.get("model.bin", sys.argv[2])
    except ShardflowError as error:
        print(type(error).__name__, error)
"""


def limited(url: str, what: str) -> str:
    """A put or get in a process that may write no file larger than 100,000 bytes."""
    script = textwrap.dedent(LIMITED)
    done = subprocess.run(
        [sys.executable, "-c", script, url, what], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_no_space_left_is_told_and_leaves_nothing_half_visible(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    store = Store.init(url)
    store.put(io.BytesIO(CONTENT), "model.bin")

    assert limited(url, "put").startswith(NoSpace.__name__)
    assert limited(url, str(tmp_path / "target.bin")).startswith(TargetUnusable.__name__)

    assert [entry.path for entry in store.ls("")] == ["model.bin"]
    assert not (tmp_path / "target.bin").exists()
    assert store.get("model.bin", tmp_path / "target.bin").bytes_done == len(CONTENT)


READ_ONLY = """
    import io, os, sys
    from shardflow.store.store import Store
    from shardflow.errors import ShardflowError
    store, _ = Store.find(sys.argv[1])
    print(len(store.open("model.bin").read()))
    try:
        store.put(io.BytesIO(b"x" * 100), "new.bin")
    except ShardflowError as error:
        print(type(error).__name__, error)
"""


def without_override() -> None:
    """Let file modes count for root too, from the next program on."""
    bounding_set_drop, override = 24, 1
    ctypes.CDLL(None).prctl(bounding_set_drop, override, 0, 0, 0)


def test_a_read_only_store_can_be_read_and_refuses_writes_by_name(tmp_path: Path) -> None:
    place = tmp_path / "store"
    Store.init(str(place)).put(io.BytesIO(CONTENT), "model.bin")
    for path in [place, *place.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(READ_ONLY), str(place)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            preexec_fn=without_override,
        )
    finally:
        for path in [place, *(path for path in place.rglob("*") if path.is_dir())]:
            path.chmod(0o755)

    read, refused = done.stdout.splitlines()
    assert read == str(len(CONTENT))
    assert refused.startswith((ReadOnlyTarget.__name__, AccessDenied.__name__))


def test_a_stream_that_fails_leaves_nothing_visible(store: Store) -> None:
    class Failing(io.RawIOBase):
        def __init__(self) -> None:
            self.left = 3

        def readable(self) -> bool:
            return True

        def readinto(self, target: memoryview) -> int:  # type: ignore[override]
            self.left -= 1
            if not self.left:
                raise OSError("the pipe broke")
            target[:] = bytes(len(target))
            return len(target)

    broken: BinaryIO = io.BufferedReader(Failing())  # type: ignore[assignment]
    with pytest.raises((OSError, ShardflowError)):
        store.put(broken, "stream.bin")
    assert list(store.ls("")) == []
