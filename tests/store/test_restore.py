"""A get writes whole, verified files, keeps what is there already, and goes on where an earlier get ended."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from shardflow.errors import Cancelled
from shardflow.store.errors import ChunkDamaged, PackMissing, PathTaken
from shardflow.store.manifest import Manifest
from shardflow.store.pack import pack_key
from shardflow.store.progress import Progress
from shardflow.store.restore import FILES_AT_ONCE, Restorer, same_content
from shardflow.transport import ByteBudget, Cancellation, Transport
from store.samples import flipped, in_memory, named, noise, stored

CHUNKS = [noise(10_000 + number, number) for number in range(6)]
CONTENT = b"".join(CHUNKS)
BUDGET = ByteBudget(64 << 20)


@pytest.fixture
def place() -> Transport:
    return in_memory()


def got(place: Transport, manifest: Manifest, target: Path, cancel: Cancellation | None = None) -> Progress:
    progress = Progress()
    with Restorer(place, BUDGET, progress, cancel or Cancellation()) as restorer:
        restorer.restore("m", manifest, target)
        restorer.finish()
    return progress


def without_pack_of(place: Transport, manifest: Manifest, row: int) -> tuple[str, bytes]:
    """Take one pack away; returns it."""
    key = pack_key(manifest.table.packs[int(manifest.table.pack[row])])
    data = bytes(place.read(key))
    place.delete(key)
    return key, data


def test_a_file_comes_back(place: Transport, tmp_path: Path) -> None:
    progress = got(place, stored(place, [*CHUNKS, CHUNKS[0]]), tmp_path / "new/m")
    assert (tmp_path / "new/m").read_bytes() == CONTENT + CHUNKS[0]
    assert progress.bytes_done == len(CONTENT) + len(CHUNKS[0])
    assert progress.totals.bytes_received == len(CONTENT)
    assert (progress.files_done, progress.files_unchanged, progress.bytes_reused) == (1, 0, 0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m"]


@pytest.mark.parametrize("content", [b"", b"small"])
def test_a_file_inside_its_manifest_comes_back(place: Transport, tmp_path: Path, content: bytes) -> None:
    progress = got(place, Manifest(len(content), named(content), inline=content), tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == content
    assert (progress.files_done, progress.bytes_done, progress.totals.reads) == (1, len(content), 0)


def test_an_empty_file_without_chunks_comes_back(place: Transport, tmp_path: Path) -> None:
    got(place, stored(place, []), tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b""


def test_a_target_that_has_the_content_is_left_as_it_is(place: Transport, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(CONTENT)
    os.utime(tmp_path / "m", ns=(1, 1))
    progress = got(place, stored(place, CHUNKS), tmp_path / "m")
    assert (tmp_path / "m").stat().st_mtime_ns == 1
    assert (progress.files_unchanged, progress.bytes_reused, progress.totals.reads) == (1, len(CONTENT), 0)


def test_a_new_version_fetches_only_what_differs(place: Transport, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"".join([*CHUNKS[:4], noise(len(CHUNKS[4]), 99), CHUNKS[5]]))
    progress = got(place, stored(place, CHUNKS), tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == CONTENT
    assert progress.totals.bytes_received == len(CHUNKS[4])
    assert progress.bytes_reused == len(CONTENT) - len(CHUNKS[4])
    assert progress.bytes_done == len(CONTENT)


def test_an_interrupted_get_goes_on_where_it_was(place: Transport, tmp_path: Path) -> None:
    manifest = stored(place, CHUNKS, per_pack=2)
    key, pack = without_pack_of(place, manifest, 2)
    with pytest.raises(PackMissing, match="of m is not in the store"):
        got(place, manifest, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    place.write(key, pack)

    progress = got(place, manifest, tmp_path / "m")

    assert (tmp_path / "m").read_bytes() == CONTENT
    assert progress.bytes_reused > 0
    assert progress.totals.bytes_received == len(CONTENT) - progress.bytes_reused
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_damage_is_told_and_no_file_appears(place: Transport, tmp_path: Path) -> None:
    manifest = stored(place, CHUNKS)
    key = pack_key(manifest.table.packs[0])
    place.write(key, flipped(bytes(place.read(key)), 8 * 5000))
    (tmp_path / "m").write_bytes(b"old")
    with pytest.raises(ChunkDamaged, match="of m in pack"):
        got(place, manifest, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"old"


def test_many_files_are_written_side_by_side(place: Transport, tmp_path: Path) -> None:
    files = {f"d{number % 3}/{number}": [noise(500 + number, number), CHUNKS[0]] for number in range(3 * FILES_AT_ONCE)}
    progress = Progress()
    with Restorer(place, BUDGET, progress, Cancellation()) as restorer:
        for name, chunks in files.items():
            restorer.restore(name, stored(place, chunks), tmp_path / name)
        restorer.finish()
    for name, chunks in files.items():
        assert (tmp_path / name).read_bytes() == b"".join(chunks)
    assert progress.files_done == len(files)
    assert BUDGET.out == 0


def test_files_of_one_content_in_one_directory_do_not_meet(place: Transport, tmp_path: Path) -> None:
    manifest = stored(place, CHUNKS)
    with Restorer(place, BUDGET, Progress(), Cancellation()) as restorer:
        for number in range(10):
            restorer.restore(f"{number}", manifest, tmp_path / f"{number}")
        restorer.finish()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {f"{n}": CONTENT for n in range(10)}


def test_what_is_done_before_a_failure_stays(place: Transport, tmp_path: Path) -> None:
    good, bad = stored(place, CHUNKS[:2]), stored(place, CHUNKS[2:])
    without_pack_of(place, bad, 0)
    with Restorer(place, BUDGET, Progress(), Cancellation()) as restorer:
        restorer.restore("good", good, tmp_path / "good")
        restorer.restore("bad", bad, tmp_path / "bad")
        with pytest.raises(PackMissing, match="of bad is not in the store"):
            restorer.finish()
    assert (tmp_path / "good").read_bytes() == b"".join(CHUNKS[:2])
    assert not (tmp_path / "bad").exists()


def test_a_cancelled_get_ends_and_goes_on_later(place: Transport, tmp_path: Path) -> None:
    manifest = stored(place, CHUNKS, per_pack=1)
    cancel, real = Cancellation(), type(place).read_range

    class Interrupting(type(place)):  # type: ignore[misc]
        def read_range(self, key: str, start: int, length: int) -> memoryview:
            cancel.cancel("Ctrl-C")
            return real(self, key, start, length)

    place.__class__ = Interrupting
    with pytest.raises(Cancelled, match="Ctrl-C"):
        got(place, manifest, tmp_path / "m", cancel)
    assert BUDGET.out == 0
    place.__class__ = Interrupting.__base__
    got(place, manifest, tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == CONTENT


def test_after_ctrl_c_the_next_get_of_this_process_goes_on(place: Transport, tmp_path: Path) -> None:
    """As in a notebook: what was written must not stay locked."""
    manifest = stored(place, CHUNKS, per_pack=1)
    restorer = Restorer(place, BUDGET, Progress(), Cancellation())
    restorer.restore("m", manifest, tmp_path / "m")
    for fetching in restorer._open[0][1]:
        fetching.result()
    restorer.__exit__(KeyboardInterrupt)
    for thread in threading.enumerate():
        if thread.name == "shardflow-end":
            thread.join(10)
    assert got(place, manifest, tmp_path / "m").bytes_reused == len(CONTENT)


def test_one_that_was_cancelled_before_does_nothing(place: Transport, tmp_path: Path) -> None:
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(Cancelled):
        got(place, stored(place, CHUNKS), tmp_path / "m", cancel)
    assert not list(tmp_path.iterdir())


def test_no_more_is_in_flight_than_the_budget_allows(place: Transport, tmp_path: Path) -> None:
    budget = ByteBudget(5 << 20)
    manifest = stored(place, CHUNKS, per_pack=1)
    with Restorer(place, budget, Progress(), Cancellation()) as restorer:
        restorer.restore("m", manifest, tmp_path / "m")
        restorer.finish()
    assert budget.out == 0
    assert 0 < budget.peak <= 5 << 20


def test_no_threads_are_left_behind(place: Transport, tmp_path: Path) -> None:
    before = threading.active_count()
    got(place, stored(place, CHUNKS), tmp_path / "m")
    assert threading.active_count() <= before


def test_a_directory_at_the_target_is_told(place: Transport, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(PathTaken, match="m is a directory, and m is a file; name another target"):
        got(place, stored(place, CHUNKS), tmp_path / "m")


def test_a_pipe_or_a_device_at_the_target_is_not_replaced(place: Transport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "null").symlink_to("/dev/null")
    for name in ("fifo", "null"):
        with pytest.raises(PathTaken, match=f"{name} is a device or a pipe, and would be replaced"):
            got(place, stored(place, CHUNKS), tmp_path / name)
    assert (tmp_path / "fifo").is_fifo()


def test_what_a_program_has_open_is_not_replaced_through_its_name_in_the_system(
    place: Transport, tmp_path: Path
) -> None:
    """As /dev/stdout is, when standard output is a file; here by a link of the same kind."""
    with (tmp_path / "redirected").open("wb") as opened:
        (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{opened.fileno()}")
        (tmp_path / "again").symlink_to("stdout")
        (tmp_path / "descriptors").symlink_to("/proc/self/fd")
        for name in ("stdout", "again", f"descriptors/{opened.fileno()}"):
            with pytest.raises(PathTaken, match=f"{name} is where the system keeps devices.*'shardflow get URL -'"):
                got(place, stored(place, CHUNKS), tmp_path / name)
            assert (tmp_path / name).is_symlink()
    assert (tmp_path / "redirected").read_bytes() == b""


@pytest.mark.parametrize("content", [b"", b"x", CONTENT])
def test_only_the_same_content_is_the_same(tmp_path: Path, content: bytes) -> None:
    manifest, file = Manifest(len(content), named(content)), tmp_path / "file"
    assert not same_content(manifest, file), "there is none"
    file.write_bytes(content)
    assert same_content(manifest, file)
    for other in (content + b"x", content[:-1] + b"y", flipped(content, 0) if content else b"z"):
        file.write_bytes(other)
        assert not same_content(manifest, file)
    assert not same_content(manifest, tmp_path)
    assert not same_content(Manifest(0, named(b"")), Path("/dev/null"))
