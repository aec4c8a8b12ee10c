"""A file appears under its name when all of it is there; what an earlier attempt left is used only if it verifies."""

from __future__ import annotations

import errno
import os
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.store.errors import TargetUnusable
from shardflow.store.manifest import ChunkTable, Manifest
from shardflow.store.placing import PartialFile, told
from store.partials import CHUNKS, CONTENT, by_name, leftovers, manifest_of, write_row
from store.samples import flipped, noise


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "in/model.bin"


@pytest.fixture
def started(target: Path) -> Iterator[PartialFile]:
    """An attempt that wrote two chunks of four and ended."""
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    for row in (0, 2):
        write_row(partial, row, by_name(CHUNKS))
    partial.close()
    yield partial
    partial.close()


@given(st.lists(st.integers(0, 4), max_size=20), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_any_sequence_of_chunks_written_in_any_order_is_the_file(
    tmp_path_factory: pytest.TempPathFactory, sequence: list[int], random: st.DataObject
) -> None:
    chunks = [noise(1 + 7 * number, number) for number in range(5)]
    content = [chunks[number] for number in sequence]
    target = tmp_path_factory.mktemp("placing") / "file"
    partial = PartialFile("m", manifest_of(content), target)
    rows = list(partial.rows)
    assert sorted(rows) == list(range(len(set(sequence))))
    assert sum(partial.bytes_of(row) for row in rows) == len(b"".join(content))
    random.shuffle(rows)  # type: ignore[attr-defined]
    for row in rows:
        assert not partial.take_from_earlier(row)
        write_row(partial, row, by_name(chunks))
    assert not target.exists()
    partial.finish()
    assert target.read_bytes() == b"".join(content)
    assert leftovers(target) == []


def test_several_threads_may_write_at_once(target: Path) -> None:
    chunks = [noise(20_000, seed) for seed in range(16)]
    partial = PartialFile("m", manifest_of(chunks), target)
    threads = [threading.Thread(target=write_row, args=(partial, row, by_name(chunks))) for row in partial.rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    partial.finish()
    assert target.read_bytes() == b"".join(chunks)


def test_until_it_is_finished_the_old_file_stands(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    for row in partial.rows:
        write_row(partial, row, by_name(CHUNKS))
    assert target.read_bytes() == b"old"
    partial.finish()
    assert target.read_bytes() == CONTENT


def test_a_second_attempt_takes_what_the_first_had_written(started: PartialFile, target: Path) -> None:
    again = PartialFile("m", started.manifest, target)
    assert again.may_have_some
    assert [again.take_from_earlier(row) for row in range(4)] == [True, False, True, False]
    for row in (1, 3):
        write_row(again, row, by_name(CHUNKS))
    again.finish()
    assert target.read_bytes() == CONTENT
    assert leftovers(target) == []


def test_a_second_attempt_may_have_another_target(started: PartialFile, target: Path) -> None:
    again = PartialFile("m", started.manifest, target.with_name("renamed.bin"))
    assert again.take_from_earlier(0)
    again.close()


def test_nothing_is_taken_that_does_not_verify(started: PartialFile, target: Path) -> None:
    [left] = [target.parent / name for name in leftovers(target)]
    good = left.read_bytes()
    for bit in range(0, 8 * len(CHUNKS[0]), 97):
        left.write_bytes(flipped(good, bit))
        again = PartialFile("m", started.manifest, target)
        assert not again.take_from_earlier(0)
        assert again.take_from_earlier(2)
        again.close()


@pytest.mark.parametrize("length", [0, 1, 499, 500, 900])
def test_a_truncated_attempt_gives_what_is_whole(started: PartialFile, target: Path, length: int) -> None:
    os.truncate(target.parent / leftovers(target)[0], length)
    again = PartialFile("m", started.manifest, target)
    assert [again.take_from_earlier(row) for row in range(4)] == [length >= 500, False, False, False]
    again.close()


def test_an_attempt_that_is_too_long_is_cut(started: PartialFile, target: Path) -> None:
    with (target.parent / leftovers(target)[0]).open("ab") as left:
        left.write(noise(5_000))
    again = PartialFile("m", started.manifest, target)
    for row in again.rows:
        write_row(again, row, by_name(CHUNKS))
    again.finish()
    assert target.read_bytes() == CONTENT


def test_a_new_version_takes_what_it_shares_with_the_old_one(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(CHUNKS[0] + noise(len(CHUNKS[1]), 9) + CHUNKS[2])
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    assert [partial.take_from_earlier(row) for row in range(4)] == [True, False, True, False]
    for row in (1, 3):
        write_row(partial, row, by_name(CHUNKS))
    partial.finish()
    assert target.read_bytes() == CONTENT


def test_a_chunk_that_comes_twice_is_written_to_both_places_from_the_one_that_is_there(target: Path) -> None:
    sequence = [CHUNKS[0], CHUNKS[1], CHUNKS[0]]
    manifest = manifest_of(sequence)
    target.parent.mkdir()
    target.write_bytes(CHUNKS[0])
    for _ in range(2):  # from the old file first, from the earlier attempt then
        partial = PartialFile("m", manifest, target)
        assert partial.take_from_earlier(0)
        target.unlink(missing_ok=True)
        partial.close()
    partial = PartialFile("m", manifest, target)
    write_row(partial, 1, by_name(CHUNKS))
    partial.finish()
    assert target.read_bytes() == b"".join(sequence)


def test_a_full_disk_is_told_and_what_was_written_stays(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    write_row(partial, 0, by_name(CHUNKS))

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(TargetUnusable, match=r"no space left for .*model.bin; free some space and run the same"):
            write_row(partial, 1, by_name(CHUNKS))
    partial.close()
    assert not target.exists()
    again = PartialFile("m", partial.manifest, target)
    assert again.take_from_earlier(0)
    again.close()


def test_a_disk_that_writes_piece_by_piece_gets_everything(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, place: real(fd, data[:100], place))
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    for row in partial.rows:
        write_row(partial, row, by_name(CHUNKS))
    partial.finish()
    assert target.read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(target: Path) -> None:
    manifest = manifest_of(CHUNKS)
    vast = Manifest(1 << 62, manifest.digest, table=manifest.table, sequence=manifest.sequence)
    with pytest.raises(TargetUnusable, match=r"needs 4611686018427387904 bytes, and \d+ are free there; free some"):
        PartialFile("m", vast, target)


def test_a_link_in_the_partial_files_place_is_not_followed(started: PartialFile, target: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    left = target.parent / leftovers(target)[0]
    left.unlink()
    left.symlink_to(victim)
    with pytest.raises(TargetUnusable, match="cannot be written"):
        PartialFile("m", started.manifest, target)
    assert victim.read_bytes() == b"precious"


def test_a_link_at_the_target_is_replaced_and_what_it_led_to_is_kept(target: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(CHUNKS[0])
    target.parent.mkdir()
    target.symlink_to(tmp_path / "elsewhere")
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    assert partial.take_from_earlier(0)
    for row in (1, 2, 3):
        write_row(partial, row, by_name(CHUNKS))
    partial.finish()
    assert not target.is_symlink()
    assert target.read_bytes() == CONTENT
    assert (tmp_path / "elsewhere").read_bytes() == CHUNKS[0]


def test_a_file_where_a_directory_is_needed_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TargetUnusable, match=r"file/model.bin cannot be written: .*; choose another target"):
        PartialFile("m", manifest_of(CHUNKS), tmp_path / "file/model.bin")


def test_closing_twice_closes_nothing_that_was_opened_since(target: Path) -> None:
    partial = PartialFile("m", manifest_of(CHUNKS), target)
    partial.close()
    with Path(__file__).open("rb") as innocent:
        partial.close()
        assert innocent.read(3) == b'"""'


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_every_kind_of_full_has_one_message(number: int) -> None:
    with pytest.raises(TargetUnusable, match="no space left for x"), told(Path("x")):
        raise OSError(number, "full")


def test_a_file_that_is_too_large_is_another_matter() -> None:
    with pytest.raises(TargetUnusable, match=r"x is too large a file; .*ulimit"), told(Path("x")):
        raise OSError(errno.EFBIG, "File too large")


def test_the_rows_of_a_file_come_in_the_order_of_the_file(target: Path) -> None:
    partial = PartialFile("m", manifest_of([CHUNKS[2], CHUNKS[0], CHUNKS[2], CHUNKS[1]]), target)
    assert list(partial.rows) == np.unique(partial.manifest.sequence).tolist() == [0, 1, 2]
    partial.close()


def test_rows_that_the_file_only_rests_on_have_no_place(target: Path) -> None:
    manifest = manifest_of(CHUNKS)
    rest = replace(manifest, sequence=np.asarray([1, 3], np.uint32), size=len(CHUNKS[1] + CHUNKS[3]))
    partial = PartialFile("m", rest, target)
    assert list(partial.rows) == [1, 3]
    assert [partial.bytes_of(row) for row in range(4)] == [0, len(CHUNKS[1]), 0, len(CHUNKS[3])]
    for row in partial.rows:
        write_row(partial, row, by_name(CHUNKS))
    partial.finish()
    assert target.read_bytes() == CHUNKS[1] + CHUNKS[3]


def test_the_places_of_many_chunks_take_a_few_bytes_each(target: Path) -> None:
    few, rows = manifest_of(CHUNKS[:1]), 50_000
    table = few.table
    columns = {name: np.repeat(getattr(table, name), rows, axis=0) for name in table.__slots__ if name != "packs"}
    many = replace(few, table=ChunkTable(table.packs, **columns), sequence=np.arange(rows, dtype=np.uint32))
    tracemalloc.start()
    partial = PartialFile("m", many, target)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    partial.close()
    assert held < 16 * rows
