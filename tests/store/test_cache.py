"""The cache gives back what it was given or nothing, stays within its limit, and never makes a read fail."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forking import run_forking
from shardflow.errors import ShardflowError
from shardflow.store.cache import DEFAULT_LIMIT, MEASURED_TIMES, SIZE_VARIABLE, ChunkCache
from store.samples import flipped, named, noise


def kept(cache: ChunkCache, data: bytes) -> bytes:
    cache.put(named(data), memoryview(data))
    return named(data)


def files_of(cache: ChunkCache) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in cache.directory.glob("*/*")}


def aged(cache: ChunkCache, chunk: bytes, seconds: int) -> None:
    os.utime(cache._path(chunk), (seconds, seconds))


@given(st.lists(st.binary(max_size=200), max_size=8))
@settings(max_examples=30)
def test_what_was_put_is_there_for_the_next_process(
    tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]
) -> None:
    place = tmp_path_factory.mktemp("cache")
    for data in chunks:
        kept(ChunkCache(place, 1 << 20), data)
    assert [ChunkCache(place, 1 << 20).get(named(data)) for data in chunks] == chunks


def test_a_chunk_that_was_never_put_is_not_there(tmp_path: Path) -> None:
    assert ChunkCache(tmp_path, 1000).get(bytes(32)) is None


def test_the_limit_holds_whatever_is_put(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 10_000)
    for seed in range(60):
        kept(cache, noise(700 + 10 * seed, seed))
        assert sum(files_of(cache).values()) <= 10_000


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 3_000)
    first, second, third = (kept(cache, noise(1_000, seed)) for seed in range(3))
    for age, chunk in enumerate((first, second, third)):
        aged(cache, chunk, 1_000 + age)
    assert cache.get(first)

    fourth = kept(cache, noise(1_000, 3))

    assert cache.get(second) is None
    assert cache.get(third) is None, "a tenth of the limit is freed, so that not every put has to look for more"
    assert cache.get(first)
    assert cache.get(fourth)


def test_what_another_process_filled_counts(tmp_path: Path) -> None:
    earlier = ChunkCache(tmp_path, 5_000)
    for seed in range(5):
        aged(earlier, kept(earlier, noise(1_000, seed)), 1_000 + seed)
    later = ChunkCache(tmp_path, 2_000)
    newest = kept(later, noise(1_000, 9))
    assert files_of(later) == {newest.hex(): 1_000}


def test_a_chunk_over_the_limit_is_not_kept_and_drives_nothing_out(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1_000)
    small = kept(cache, noise(500))
    large = kept(cache, noise(1_001))
    assert cache.get(large) is None
    assert cache.get(small)


def test_a_limit_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 0)
    assert cache.get(kept(cache, b"x")) is None
    assert not files_of(cache)


@pytest.mark.parametrize("damage", [lambda data: flipped(data, 77), lambda data: data[:-1], lambda _: b""])
def test_a_damaged_entry_is_dropped_and_can_be_put_again(tmp_path: Path, damage: object) -> None:
    cache = ChunkCache(tmp_path, 10_000)
    data = noise(500)
    chunk = kept(cache, data)
    cache._path(chunk).write_bytes(damage(data))  # type: ignore[operator]
    assert cache.get(chunk) is None
    assert not files_of(cache)
    kept(cache, data)
    assert cache.get(chunk) == data


def test_a_cache_that_cannot_be_written_is_harmless(tmp_path: Path) -> None:
    (tmp_path / "chunks").write_text("a file in the way")
    cache = ChunkCache(tmp_path, 1_000)
    assert cache.get(kept(cache, b"data")) is None


def test_a_directory_in_place_of_an_entry_is_harmless(tmp_path: Path) -> None:
    cache = ChunkCache(tmp_path, 1_000)
    cache._path(named(b"data")).mkdir(parents=True)
    assert cache.get(kept(cache, b"data")) is None
    assert len(files_of(cache)) == 1, "nothing half-written stays beside it"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    cache = ChunkCache(tmp_path, 1_000)
    assert cache.get(kept(cache, noise(500))) is None
    assert not files_of(cache)


def test_the_environment_sets_the_limit_and_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_CACHE", str(tmp_path / "here"))
    monkeypatch.delenv(SIZE_VARIABLE, raising=False)
    assert ChunkCache().limit == DEFAULT_LIMIT
    monkeypatch.setenv(SIZE_VARIABLE, "12345")
    assert ChunkCache().limit == 12345
    assert ChunkCache().directory == tmp_path / "here/chunks"


@pytest.mark.parametrize("text", ["10GB", "-1", "1e9"])
def test_a_limit_that_is_no_number_of_bytes_is_told(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(SIZE_VARIABLE, text)
    with pytest.raises(ShardflowError, match=f"SHARDFLOW_CACHE_BYTES is '{text}'; set it to a number of bytes"):
        ChunkCache()


def _use(place: Path, seed: int) -> None:
    cache = ChunkCache(place, 20_000)
    shared = noise(3_000, 99)
    for turn in range(30):
        for data in (noise(1_500, turn), noise(1_500, 100 * seed + turn), shared):
            found = cache.get(kept(cache, data))
            assert found in (None, data)


def test_two_processes_and_their_threads_share_one_cache(tmp_path: Path) -> None:
    other = multiprocessing.get_context("spawn").Process(target=_use, args=(tmp_path, 1))
    other.start()
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(_use, tmp_path, seed) for seed in range(2, 6)]:
            done.result()
    other.join(30)
    assert other.exitcode == 0
    cache = ChunkCache(tmp_path, 20_000)
    kept(cache, b"the last word")
    assert sum(files_of(cache).values()) <= 20_000
    assert all(len(name) == 64 for name in files_of(cache))


def test_several_that_are_used_by_turns_keep_to_one_limit_together(tmp_path: Path) -> None:
    """None of them knows what the others put, unless it looks."""
    caches = [ChunkCache(tmp_path, 100_000) for _ in range(4)]
    for turn in range(90):
        for number, cache in enumerate(caches):
            kept(cache, noise(1_000, 100 * number + turn))
    assert sum(files_of(caches[0]).values()) <= 100_000 + 4 * 100_000 // MEASURED_TIMES


def test_what_others_put_is_not_measured_with_every_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, real = ChunkCache(tmp_path, 100_000), ChunkCache._measure
    measured: list[int] = []
    monkeypatch.setattr(ChunkCache, "_measure", lambda cache: measured.append(1) or real(cache))
    for turn in range(90):
        kept(cache, noise(1_000, turn))
    assert len(measured) <= MEASURED_TIMES


def test_the_child_of_a_fork_keeps_chunks_though_a_thread_of_its_parent_was_about_to(tmp_path: Path) -> None:
    program = """
import pathlib
from blake3 import blake3
from shardflow.store.cache import ChunkCache
cache = ChunkCache(pathlib.Path(sys.argv[1]), 1 << 20)

def keep():
    cache.put(blake3(b"data").digest(), memoryview(b"data"))
    return cache.get(blake3(b"data").digest())

with cache._lock:
    forked(keep)
"""
    assert run_forking(program, str(tmp_path)) == "child: b'data'\n"
