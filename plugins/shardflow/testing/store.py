"""What a store must do on any backend, as tests to inherit.

Give a subclass a fixture `store` that is an empty `Store` on the backend, made with `SMALL_SETTINGS`, and pytest does
the rest:

    class TestMyBackend(StoreContract):
        @pytest.fixture
        def store(self) -> Store:
            return Store.init("shardflow://...", SMALL_SETTINGS)
"""

from __future__ import annotations

import io
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shardflow.store.care.fsck import check
from shardflow.store.care.gc import collect
from shardflow.store.config import Cutting, Settings
from shardflow.store.errors import ChunkDamaged, PathMissing, PathTaken
from shardflow.store.store import Store

SMALL_SETTINGS = Settings(
    pack_bytes=256 << 10,
    chunk_bytes=64 << 10,
    inline_bytes=1 << 10,
    gc_grace_seconds=3600.0,
    cutting=Cutting(minimum=2 << 10, mean=8 << 10, maximum=32 << 10),
)

# One store for all examples of a test, and one test for all backends: both are meant.
OTHERS_EACH_RUN = settings(
    deadline=None,
    derandomize=False,
    print_blob=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors, HealthCheck.too_slow],
)

_PIECES = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100_000)), max_size=4)
_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=12).filter(
    lambda name: name not in {".", ".."}
)
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_FILES = st.lists(st.tuples(_PATHS, _PIECES | st.none()), max_size=5)
"""What a directory holds: files by their paths, and with None empty directories."""


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no codec makes smaller."""
    return random.Random(seed).randbytes(size)  # noqa: S311  # test data, not a secret


def made_of(pieces: list[tuple[int, int]]) -> bytes:
    """Pieces that come again, zeros and noise, of odd lengths."""
    return b"".join(noise(size, seed) if seed else bytes(size) for seed, size in pieces)


def listing(root: Path) -> dict[str, bytes | None]:
    """Everything below a directory; None is a directory."""
    return {str(path.relative_to(root)): path.read_bytes() if path.is_file() else None for path in root.rglob("*")}


def filled(root: Path, files: list[tuple[str, list[tuple[int, int]] | None]]) -> Path:
    """A new directory with all that can be in it: a path whose place is taken is left out."""
    root.mkdir()
    for path, pieces in files:
        target = root / path
        if target.exists() or any(parent.is_file() for parent in target.parents):
            continue
        (target if pieces is None else target.parent).mkdir(parents=True, exist_ok=True)
        if pieces is not None:
            target.write_bytes(made_of(pieces))
    return root


class StoreContract:
    """Put, get, read, remove, collect and check, as users of any backend see them."""

    def test_a_file_comes_back(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "model.bin"
        source.write_bytes(noise(1_000_000))
        store.put(source, "models/a/model.bin")
        store.get("models/a/model.bin", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == source.read_bytes()

    def test_a_directory_comes_back(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "model"
        (source / "deep dir/ü").mkdir(parents=True)
        (source / "empty").mkdir()
        for number, name in enumerate(["MLmodel", "weights #1.bin", "deep dir/100%.txt", "deep dir/ü/中.bin"]):
            (source / name).write_bytes(noise(number * 70_000, number))
        store.put(source, "m")
        store.get("m", tmp_path / "back")
        assert listing(tmp_path / "back") == listing(source)

    @settings(OTHERS_EACH_RUN, max_examples=5)
    @given(pieces=_PIECES)
    def test_any_content_comes_back(self, store: Store, pieces: list[tuple[int, int]]) -> None:
        content = made_of(pieces)
        store.put(io.BytesIO(content), "any.bin")
        with store.open("any.bin") as file:
            assert file.read() == content

    @settings(OTHERS_EACH_RUN, max_examples=3)
    @given(pieces=_PIECES)
    def test_any_file_comes_back_over_an_earlier_one(
        self, store: Store, tmp_path: Path, pieces: list[tuple[int, int]]
    ) -> None:
        (tmp_path / "source.bin").write_bytes(made_of(pieces))
        store.put(tmp_path / "source.bin", "any.bin")
        store.get("any.bin", tmp_path / "back.bin")
        assert (tmp_path / "back.bin").read_bytes() == made_of(pieces)

    @settings(OTHERS_EACH_RUN, max_examples=3)
    @given(files=_FILES)
    def test_any_directory_comes_back(
        self, store: Store, files: list[tuple[str, list[tuple[int, int]] | None]]
    ) -> None:
        with TemporaryDirectory() as place:
            path = Path(place).name  # of its own: a put into what a failed example has left would add to it
            source = filled(Path(place, "source"), files)
            store.put(source, path)
            store.get(path, Path(place, "back"))
            assert listing(Path(place, "back")) == listing(source)

    def test_ranges_are_read_without_the_rest(self, store: Store) -> None:
        content = noise(1_000_000)
        store.put(io.BytesIO(content), "model.bin")
        with store.open("model.bin") as file:
            assert file.read_at(500_000, 1000) == content[500_000:501_000]
            file.seek(-10, io.SEEK_END)
            assert file.read() == content[-10:]

    def test_a_new_version_costs_what_changed(self, store: Store, tmp_path: Path) -> None:
        content = bytearray(noise(2_000_000))
        source = tmp_path / "model.bin"
        source.write_bytes(content)
        store.put(source, "v1")
        content[700_000:700_000] = b"inserted"
        source.write_bytes(content)
        report = store.put(source, "v2")
        assert report.totals.bytes_sent < 150_000
        assert store.open("v2").read() == bytes(content)

    def test_putting_again_sends_nothing(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "model.bin"
        source.write_bytes(noise(300_000))
        store.put(source, "model.bin")
        report = store.put(source, "model.bin")
        assert (report.totals.objects_written, report.files_unchanged) == (0, 1)

    def test_other_content_is_refused_where_nothing_may_be_replaced(self, store: Store) -> None:
        store.put(io.BytesIO(b"one"), "name", replace=False)
        store.put(io.BytesIO(b"one"), "name", replace=False)
        with pytest.raises(PathTaken):
            store.put(io.BytesIO(b"two"), "name", replace=False)
        assert store.open("name").read() == b"one"

    def test_names_are_listed_and_removed(self, store: Store) -> None:
        store.put(io.BytesIO(b"1"), "a/b/c")
        store.put(io.BytesIO(b"22"), "a/d")
        assert [(entry.path, entry.kind) for entry in store.ls("a")] == [("a/b", "directory"), ("a/d", "file")]
        assert store.rm("a", recursive=True) == 2
        assert list(store.ls("")) == []
        with pytest.raises(PathMissing):
            store.open("a/d")

    def test_unused_bytes_go_with_the_second_collection(self, store: Store) -> None:
        content = noise(600_000)
        store.put(io.BytesIO(content), "kept")
        store.put(io.BytesIO(noise(600_000, 1)), "dropped")
        before = len(list(store.transport.list("packs/")))
        store.rm("dropped")

        collect(store, grace=0.0)
        assert len(list(store.transport.list("packs/"))) == before
        collect(store, grace=0.0)

        assert len(list(store.transport.list("packs/"))) < before
        assert store.open("kept").read() == content

    def test_a_flipped_bit_is_found_and_named(self, store: Store, tmp_path: Path) -> None:
        store.put(io.BytesIO(noise(200_000)), "model.bin")
        assert check(store, read_data=True).ok
        key = next(info.key for info in store.transport.list("packs/"))
        data = bytearray(store.transport.read(key))
        data[5_000] ^= 1
        store.transport.write(key, bytes(data))

        with pytest.raises(ChunkDamaged, match=r"model\.bin"):
            store.get("model.bin", tmp_path / "model.bin")
        assert not (tmp_path / "model.bin").exists()
        assert not check(store, read_data=True).ok
