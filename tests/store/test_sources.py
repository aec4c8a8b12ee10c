"""Files, directories and streams are taken as they are, or refused by name before anything is stored."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from shardflow.store import sources
from shardflow.store.errors import BadPath, SourceChanged, SourceUnusable
from shardflow.store.sources import EmptyDirectory, FileSource, StreamSource, file_source, walk


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "source.bin"
    file.write_bytes(b"some content")
    return file


def paths_of(directory: Path, path: str = "m") -> list[str]:
    return [source.path for source in walk(directory, path)]


def test_a_file_is_what_it_was_when_it_was_found(file: Path) -> None:
    source = file_source(file, "models/m")
    assert (source.path, source.name, source.size) == ("models/m", str(file), 12)
    with source.open() as opened:
        assert opened.read() == b"some content"
        source.check_unchanged(opened, 12)


def _rewrite(file: Path) -> None:
    file.write_bytes(b"other content")


def _touch(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def _replace(file: Path) -> None:
    copy = file.with_name("copy")
    copy.write_bytes(b"some content")
    os.utime(copy, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    copy.replace(file)


def _truncate(file: Path) -> None:
    os.truncate(file, 3)


CHANGES = [_rewrite, _touch, _replace, _truncate, Path.unlink]


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_while_it_is_read_is_noticed(file: Path, change: object) -> None:
    source = file_source(file, "m")
    with source.open() as opened:
        change(file)  # type: ignore[operator]
        with pytest.raises(SourceChanged, match=r"source.bin .* while it was being read; run it again once nothing"):
            source.check_unchanged(opened, 12)


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_before_it_is_read_is_noticed_and_closed(file: Path, change: object) -> None:
    source = file_source(file, "m")
    change(file)  # type: ignore[operator]
    with pytest.raises((SourceChanged, SourceUnusable), match=r"source.bin"):
        source.open()


def test_a_file_that_gives_less_than_it_should_is_noticed(file: Path) -> None:
    source = file_source(file, "m")
    with source.open() as opened, pytest.raises(SourceChanged, match="gave 11 bytes of 12"):
        source.check_unchanged(opened, 11)


def test_a_file_that_was_cut_short_since_it_was_found_is_noticed_wherever_it_is_read(file: Path) -> None:
    source = file_source(file, "path")
    with source.open() as opened:
        read_at = source.random_access(opened)
        size = source.size
        assert len(read_at(size - 2, 100)) == 2
        assert read_at(size + 5, 100) == b""
        os.truncate(file, size - 1)
        with pytest.raises(SourceChanged, match="became shorter while it was being read"):
            read_at(size - 2, 100)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    for name, told in {
        "absent": "absent does not exist",
        "broken": "broken is a link to nothing",
        "loop": "loop cannot be read: ",
        "fifo": "fifo is neither a file nor a directory; pipe it in as a stream with '-'",
        "": "is neither a file nor a directory",
    }.items():
        with pytest.raises(SourceUnusable, match=told):
            file_source(tmp_path / name, "m")


def test_a_directory_gives_all_its_files_by_name(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/e", "B"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert paths_of(tmp_path) == ["m/B", "m/a", "m/b/1", "m/b/2", "m/c/d/e"]
    assert paths_of(tmp_path, "") == ["B", "a", "b/1", "b/2", "c/d/e"]


def test_what_others_look_for_comes_last(tmp_path: Path) -> None:
    for name in ("MLmodel", "model/MLmodel", "model/weights", "requirements.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert paths_of(tmp_path) == ["m/model/weights", "m/requirements.txt", "m/MLmodel", "m/model/MLmodel"]


def test_directories_with_nothing_in_them_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "c").write_bytes(b"")
    found = list(walk(tmp_path, "m"))
    assert found[0] == EmptyDirectory("m/a/b")
    assert isinstance(found[1], FileSource)


def test_an_empty_directory_is_all_there_is(tmp_path: Path) -> None:
    assert list(walk(tmp_path, "m")) == [EmptyDirectory("m")]


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_bytes(b"content")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/directory").symlink_to(tmp_path / "real")
    (tmp_path / "source/again").symlink_to(tmp_path / "real")
    (tmp_path / "source/file").symlink_to(tmp_path / "real/file")
    assert paths_of(tmp_path / "source") == ["m/again/file", "m/directory/file", "m/file"]


def test_a_link_to_a_directory_above_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/up").symlink_to(tmp_path / "a")
    with pytest.raises(SourceUnusable, match=r"a/b/up links back to a directory that holds it; remove the link"):
        paths_of(tmp_path)


def test_any_name_a_file_can_have_is_taken(tmp_path: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b" ", b"%41", b"caf\xc3\xa9", b"cafe\xcc\x81"]
    for name in names:
        (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))).write_bytes(b"")
    assert {os.fsencode(path) for path in paths_of(tmp_path, "")} == set(names)


def test_a_name_that_cannot_be_stored_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "é" / ("é" * 100)).mkdir(parents=True)
    with pytest.raises(BadPath, match="is longer than 240 bytes in the store; use a shorter name"):
        paths_of(tmp_path)


def test_a_stream_stays_open_for_its_owner() -> None:
    stream = io.BytesIO(b"content")
    source = StreamSource.begun("m", stream)
    with source.open() as opened:
        assert opened.readable()
        assert opened.read() == b"content"
    assert not stream.closed
    source.check_unchanged(opened, 7)


def test_a_short_stream_is_as_good_as_a_file() -> None:
    source = StreamSource.begun("m", io.BytesIO(b"content"))
    with source.open() as opened:
        assert source.size == 7
        assert source.random_access(opened)(2, 3) == b"nte"


def test_a_long_stream_shows_its_head_and_gives_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HEAD_BYTES", 4)
    source = StreamSource.begun("m", io.BytesIO(b"content"))
    with source.open() as opened:
        assert source.size is None
        assert source.random_access(opened)(0, 100) == b"cont"
        assert opened.read() == b"content"


def test_a_stream_may_give_any_kind_of_bytes() -> None:
    class Views(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return memoryview(super().read(size))  # type: ignore[return-value]

    with StreamSource.begun("m", Views(b"content")).open() as opened:
        assert opened.read() == b"content"


def test_text_and_pipes_that_do_not_wait_are_refused() -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with io.FileIO(reading) as pipe, io.FileIO(writing, "w"):
        for stream, what in ((io.StringIO("text"), "str"), (pipe, "NoneType")):
            with pytest.raises(SourceUnusable, match=f"the stream gives {what}, not bytes; open it in binary mode"):
                StreamSource.begun("m", stream)  # type: ignore[arg-type]


def test_an_unfinished_get_in_a_directory_is_no_content_of_it(tmp_path: Path) -> None:
    for name in (f".shardflow-{'a' * 24}.part", f".shardflow-{'a' * 24}.{'b' * 16}.part", ".shardflow-mine.part"):
        (tmp_path / name).write_bytes(b"x")
    assert paths_of(tmp_path) == ["m/.shardflow-mine.part"]
