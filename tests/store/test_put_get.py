"""What is put comes back, and what is there already is not stored again."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardflow.store.errors import BadPath, PathMissing, PathTaken
from shardflow.store.store import Store


def random_bytes(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()


def stored_bytes(store: Store, prefix: str = "packs/") -> int:
    return sum(info.size for info in store.transport.list(prefix))


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 70_000, 3_000_000])
def test_a_file_comes_back_as_it_was(store: Store, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(random_bytes(size))

    store.put(source, "models/a.bin")
    store.get("models/a.bin", tmp_path / "back.bin")

    assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30_000)), max_size=12))
def test_any_content_comes_back_through_any_seam(store: Store, pieces: list[tuple[int, int]]) -> None:
    """Repeated, compressible and random pieces of odd lengths, put as a stream and read in one go and in parts."""
    content = b"".join(bytes(size) if seed == 0 else random_bytes(size, seed % 4) for seed, size in pieces)

    store.put(io.BytesIO(content), "stream.bin")

    with store.open("stream.bin") as file:
        assert file.read() == content
        middle = len(content) // 2
        file.seek(middle)
        assert file.read(100) == content[middle : middle + 100]


def test_a_directory_comes_back_with_odd_names_and_empty_directories(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep/er").mkdir(parents=True)
    (source / "empty/inner").mkdir(parents=True)
    names = ["a file", "50%", "hash#1", "emo\u00e9\u4e2d", "q?&=*.bin", "..hidden", "deep/er/back\\slash", "new\nline"]
    for number, name in enumerate(names):
        (source / name).write_bytes(random_bytes(500 * number, number))

    store.put(source, "tree")
    store.get("tree", tmp_path / "back")

    def listing(root: Path) -> dict[str, bytes | None]:
        return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}

    assert listing(tmp_path / "back") == listing(source)


def test_links_to_files_are_stored_as_files(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (tmp_path / "blob").write_bytes(b"weights")
    (source / "model.bin").symlink_to(tmp_path / "blob")

    store.put(source, "m")

    assert store.open("m/model.bin").read() == b"weights"


def test_the_same_content_again_stores_no_chunk(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(random_bytes(2_000_000))
    store.put(source, "v1/model.bin")
    before = stored_bytes(store)

    report = store.put(source, "v2/model.bin")

    assert stored_bytes(store) == before
    assert report.bytes_reused == 2_000_000
    assert report.packs_sent == 0


def test_putting_an_unchanged_file_again_writes_nothing(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(random_bytes(100_000))
    store.put(source, "model.bin")

    report = store.put(source, "model.bin")

    assert report.totals.objects_written == 0
    assert report.files_unchanged == 1


def test_a_small_change_stores_little(store: Store, tmp_path: Path) -> None:
    content = bytearray(random_bytes(2_000_000))
    source = tmp_path / "source.bin"
    source.write_bytes(content)
    store.put(source, "v1")
    before = stored_bytes(store)
    content[1_000_000:1_000_000] = b"inserted"
    source.write_bytes(content)

    store.put(source, "v2")

    assert stored_bytes(store) - before < 40_000
    assert store.open("v2").read() == bytes(content)
    assert store.open("v1").size == 2_000_000


def test_repeated_content_within_a_file_is_stored_once(store: Store, tmp_path: Path) -> None:
    block = random_bytes(200_000)
    source = tmp_path / "source.bin"
    source.write_bytes(block * 5)

    store.put(source, "model.bin")
    store.get("model.bin", tmp_path / "back.bin")

    assert stored_bytes(store) < 260_000
    assert (tmp_path / "back.bin").read_bytes() == block * 5


def test_many_small_files_share_packs_or_live_in_their_manifests(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(200):
        (source / f"{number:03}").write_bytes(random_bytes(number * 20, number))

    report = store.put(source, "many")

    assert report.totals.objects_written <= 200 + 10
    assert report.files_done == 200


def test_get_of_an_unchanged_target_fetches_nothing(store: Store, tmp_path: Path) -> None:
    store.put(io.BytesIO(random_bytes(300_000)), "model.bin")
    store.get("model.bin", tmp_path / "model.bin")

    report = store.get("model.bin", tmp_path / "model.bin")

    assert report.files_unchanged == 1
    assert report.totals.bytes_received < 20_000  # the manifest


def test_get_over_an_older_version_fetches_only_what_differs(store: Store, tmp_path: Path) -> None:
    content = bytearray(random_bytes(1_000_000))
    store.put(io.BytesIO(content), "v1")
    content[500_000:500_010] = b"0123456789"
    store.put(io.BytesIO(content), "v2")
    store.get("v1", tmp_path / "model.bin")

    report = store.get("v2", tmp_path / "model.bin")

    assert report.totals.bytes_received < 100_000
    assert (tmp_path / "model.bin").read_bytes() == bytes(content)


def test_a_file_goes_into_a_directory_under_its_own_name(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "model.bin"
    source.write_bytes(b"x" * 5000)
    store.put(source, "dir/other.bin")

    store.put(source, "dir")
    store.get("dir/model.bin", tmp_path)

    assert {entry.path for entry in store.ls("dir")} == {"dir/model.bin", "dir/other.bin"}


def test_listings_show_names_kinds_and_details(store: Store) -> None:
    store.put(io.BytesIO(b"1" * 10), "a/b/c.txt")
    store.put(io.BytesIO(b"2" * 20), "a/d.txt")

    assert [(e.path, e.kind) for e in store.ls("a")] == [("a/b", "directory"), ("a/d.txt", "file")]
    assert [(e.path, e.size) for e in store.ls("a", recursive=True, details=True)] == [
        ("a/b/c.txt", 10),
        ("a/d.txt", 20),
    ]
    assert [e.path for e in store.ls("a/d.txt")] == ["a/d.txt"]
    assert store.stat("a").files == 2
    assert store.stat("a").size == 30


def test_removed_names_are_gone_and_their_directory_with_the_last_of_them(store: Store) -> None:
    store.put(io.BytesIO(b"1"), "a/b/c.txt")
    store.put(io.BytesIO(b"2"), "a/d.txt")

    assert store.rm("a/d.txt") == 1
    with pytest.raises(PathTaken, match="is a directory"):
        store.rm("a")
    assert store.rm("a", recursive=True) == 1
    assert list(store.ls("")) == []
    with pytest.raises(PathMissing):
        store.open("a/b/c.txt")


def test_a_path_cannot_be_file_and_directory(store: Store, tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/x").write_bytes(b"x")
    store.put(io.BytesIO(b"file"), "a/file")

    with pytest.raises(PathTaken, match="a/file is a file"):
        store.put(io.BytesIO(b"below"), "a/file/below")
    with pytest.raises(PathTaken, match="a/file is a file"):
        store.put(tmp_path / "dir", "a/file")
    with pytest.raises(BadPath, match="a stream needs a name"):
        store.put(io.BytesIO(b"on top"), "a")


def test_without_replace_other_content_is_refused_and_the_same_is_fine(store: Store) -> None:
    store.put(io.BytesIO(b"first"), "name", replace=False)

    store.put(io.BytesIO(b"first"), "name", replace=False)
    with pytest.raises(PathTaken, match="with other content"):
        store.put(io.BytesIO(b"second"), "name", replace=False)

    assert store.open("name").read() == b"first"


def test_what_completes_a_directory_is_written_last(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "model"
    (source / "zz").mkdir(parents=True)
    (source / "MLmodel").write_text("flavors: {}")
    (source / "weights.bin").write_bytes(random_bytes(300_000))
    (source / "zz/extra.bin").write_bytes(random_bytes(200_000, 1))
    written: list[str] = []
    original = type(store.transport).write

    def noting(self: object, key: str, data: bytes, **options: object) -> object:
        done = original(self, key, data, **options)  # type: ignore[arg-type]
        written.append(key)
        return done

    monkeypatch.setattr(type(store.transport), "write", noting)
    store.put(source, "m")

    assert [key for key in written if key.startswith("tree/")][-1] == "tree/m/MLmodel"


def test_two_puts_share_one_budget_without_waiting_for_ever(
    store: Store, reopened: Callable[[], Store], tmp_path: Path
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    sources = []
    for number in range(6):
        source = tmp_path / f"{number}.bin"
        source.write_bytes(random_bytes(500_000, number))
        sources.append(source)
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda source: store.put(source, source.name), sources))

    for source in sources:
        assert reopened().open(source.name).read() == source.read_bytes()
    assert store.budget.out == 0


def test_memory_of_a_put_stays_within_the_budget(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "big.bin"
    source.write_bytes(os.urandom(20 << 20))

    store.put(source, "big.bin")

    assert store.budget.peak <= store.budget.total


def test_putting_again_what_lost_its_hints_writes_them_anew(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(random_bytes(1_500_000))
    store.put(source, "model.bin")
    hints = [info.key for info in store.transport.list("hints/")]
    for key in hints:
        store.transport.delete(key)

    store.put(source, "model.bin")

    assert [info.key for info in store.transport.list("hints/")] == hints


@pytest.mark.parametrize("size", [0, 100, 3_000_000])
def test_the_md5_of_a_file_is_noted_where_that_was_asked_for(store: Store, tmp_path: Path, size: int) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(random_bytes(size))

    store.put(source, "plain.bin")
    store.put(source, "noted.bin", md5=True)

    assert store.manifest("plain.bin").md5 is None
    assert store.manifest("noted.bin").md5 == hashlib.md5(source.read_bytes()).digest()


def test_the_md5_is_that_of_the_new_content_though_all_chunks_were_there(store: Store, tmp_path: Path) -> None:
    source, other = random_bytes(100_000, 1), random_bytes(100_000, 2)
    store.put(io.BytesIO(source + other), "one.bin", md5=True)
    store.put(io.BytesIO(other + source), "one.bin", md5=True)
    assert store.manifest("one.bin").md5 == hashlib.md5(other + source).digest()
