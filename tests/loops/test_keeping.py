"""Machine code is given back whole and unchanged, and only if nobody but its user can have written it."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shardflow.loops import keeping
from shardflow.loops.keeping import directory, keep, kept

KEY, OTHER, CODE = bytes(range(32)), bytes(32), b"machine code" * 100


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


@pytest.fixture(autouse=True)
def in_a_place_of_its_own(place: Path) -> None:
    pass


def test_what_is_kept_is_found_again_by_its_key(place: Path) -> None:
    assert kept(KEY) is None
    keep(KEY, CODE)
    assert (kept(KEY), kept(OTHER)) == (CODE, None)
    keep(KEY, b"newer")
    assert kept(KEY) == b"newer"
    assert names(place) == [KEY.hex()]


def test_what_is_held_is_counted_where_it_is_trusted(place: Path) -> None:
    assert keeping.held() == 0
    keep(KEY, CODE)
    keep(OTHER, CODE)
    assert keeping.held() == 2
    place.chmod(0o777)
    assert keeping.held() == 0


def test_nobody_else_can_look_into_it(place: Path) -> None:
    keep(KEY, CODE)
    assert [oct(path.stat().st_mode & 0o777) for path in (place, place / KEY.hex())] == ["0o700", "0o600"]


def test_it_lies_where_the_user_says_or_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHARDFLOW_CACHE", str(tmp_path / "cache"))
    assert directory() == tmp_path / "loops"
    monkeypatch.delenv("SHARDFLOW_LOOPS")
    assert directory() == tmp_path / "cache/loops"


@pytest.mark.parametrize("at", [0, 20, 60, -1])
def test_a_file_with_one_wrong_byte_is_not_code(place: Path, at: int) -> None:
    keep(KEY, CODE)
    file = place / KEY.hex()
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)
    assert kept(KEY) is None


def test_no_part_of_a_file_and_no_other_file_is_code(place: Path) -> None:
    keep(KEY, CODE)
    file = place / KEY.hex()
    data = file.read_bytes()
    for damaged in (data[:-1], data[:40], data[:5], b"", data + b"x", CODE, bytes(keeping.LARGEST + 1)):
        file.write_bytes(damaged)
        assert kept(KEY) is None
    file.write_bytes(data)
    file.rename(place / OTHER.hex())
    assert kept(OTHER) is None


def test_what_somebody_else_may_write_is_not_trusted(place: Path) -> None:
    keep(KEY, CODE)
    for path, mode in ((place, 0o700), (place / KEY.hex(), 0o600)):
        for open_to in (0o020, 0o002):
            path.chmod(mode | open_to)
            assert kept(KEY) is None
        path.chmod(mode)
        assert kept(KEY) == CODE


def test_what_somebody_else_owns_is_neither_trusted_nor_written(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(KEY, CODE)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert kept(KEY) is None
    keep(OTHER, CODE)
    assert names(place) == [KEY.hex()]


def test_links_and_pipes_are_not_followed(place: Path, tmp_path: Path) -> None:
    keep(KEY, CODE)
    file = place / KEY.hex()
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert kept(KEY) is None
    file.unlink()
    os.mkfifo(file, 0o600)
    assert kept(KEY) is None
    file.unlink()
    (tmp_path / "elsewhere").rename(file)
    assert kept(KEY) == CODE
    place.rename(tmp_path / "moved")
    place.symlink_to(tmp_path / "moved")
    assert kept(KEY) is None


def test_where_nothing_can_be_written_nothing_is_kept(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_text("in the way")
    keep(KEY, CODE)
    assert kept(KEY) is None
    monkeypatch.setenv("SHARDFLOW_LOOPS", str(tmp_path / "loops/deeper"))
    keep(KEY, CODE)
    assert kept(KEY) is None


@pytest.fixture
def files_of_ten_bytes() -> Iterator[None]:
    """As if the disk were full from there on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.usefixtures("files_of_ten_bytes")
def test_a_full_disk_leaves_nothing_behind(place: Path) -> None:
    keep(KEY, CODE)
    assert kept(KEY) is None
    assert names(place) == []


def test_the_oldest_goes_when_there_is_more_than_anybody_needs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "MOST_FILES", 10)
    keys = [bytes([number]) * 32 for number in range(11)]
    for number, key in enumerate(keys):
        keep(key, CODE)
        os.utime(place / key.hex(), (number, number)) if number < 10 else None
    assert [key for key in keys if kept(key) is None] == keys[:2]
