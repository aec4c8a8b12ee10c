"""A store as an fsspec file system, without DVC: what is written is read back, and failures are the usual ones."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import fsspec
import pytest
from dvc.exceptions import DvcException
from fsspec.callbacks import Callback

from services.fixtures import fresh_url
from services.service import Service
from shardflow.dvc import described
from shardflow.dvc.filesystem import StoreFileSystem
from shardflow.store.paths import key_of
from shardflow.store.store import Store

LARGE = bytes(range(256)) * 1000


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, str]]:
    """The URL of a directory in a store, and the options that reach it."""
    options: dict[str, str] = {}
    url = f"shardflow://file{tmp_path}/store"
    if request.param == "s3":
        moto: Service = request.getfixturevalue("moto")
        url, options = fresh_url(moto), dict(moto.options)
    Store.init(url, options=options)
    return f"{url}/some", options


@pytest.fixture
def fs(root: tuple[str, dict[str, str]]) -> StoreFileSystem:
    return StoreFileSystem(**root[1])


@pytest.fixture
def filled(fs: StoreFileSystem, root: tuple[str, dict[str, str]]) -> str:
    """A directory with a small file, a large one, and an empty directory."""
    url, _ = root
    fs.pipe_file(f"{url}/small.txt", b"small")
    fs.pipe_file(f"{url}/inner/large.bin", LARGE)
    fs.makedirs(f"{url}/empty")
    return url.removeprefix("shardflow://")


def test_what_is_written_is_read_in_every_way(filled: str, fs: StoreFileSystem, tmp_path: Path) -> None:
    assert fs.cat_file(f"{filled}/small.txt") == b"small"
    assert fs.cat_file(f"{filled}/inner/large.bin", start=1000, end=1010) == LARGE[1000:1010]
    with fs.open(f"{filled}/small.txt", "r") as file:
        assert file.read() == "small"
    with fs.open(f"{filled}/inner/large.bin") as binary:
        binary.seek(-3, io.SEEK_END)
        assert binary.read() == LARGE[-3:]
    fs.get(filled, str(tmp_path / "got"), recursive=True)
    assert (tmp_path / "got" / "inner" / "large.bin").read_bytes() == LARGE
    assert (tmp_path / "got" / "empty").is_dir()


def test_directories_and_files_are_told_apart_and_listed(filled: str, fs: StoreFileSystem) -> None:
    assert sorted(fs.ls(filled, detail=False)) == [f"{filled}/{name}" for name in ("empty", "inner", "small.txt")]
    assert fs.find(filled) == [f"{filled}/inner/large.bin", f"{filled}/small.txt"]
    assert fs.find(filled, prefix="sm") == [f"{filled}/small.txt"]
    assert fs.find(f"{filled}/small.txt") == [f"{filled}/small.txt"]
    assert fs.find(f"{filled}/nothing") == []
    assert [names for _, *names in fs.walk(f"{filled}/inner")] == [[[], ["large.bin"]]]
    assert (fs.isdir(f"{filled}/empty"), fs.isfile(f"{filled}/empty")) == (True, False)
    assert (fs.isdir(f"{filled}/small.txt"), fs.exists(f"{filled}/none")) == (False, False)


def test_a_file_is_known_by_size_and_digests(filled: str, fs: StoreFileSystem) -> None:
    info = fs.info(f"{filled}/inner/large.bin")
    assert (info["type"], info["size"], info["md5"]) == ("file", len(LARGE), hashlib.md5(LARGE).hexdigest())
    assert info["etag"] == info["blake3"] == fs.ukey(f"{filled}/inner/large.bin")
    assert fs.created(f"{filled}/small.txt").tzinfo is not None


def test_names_are_copied_moved_and_removed(filled: str, fs: StoreFileSystem) -> None:
    fs.cp_file(f"{filled}/inner/large.bin", f"{filled}/copy.bin")
    fs.mv(f"{filled}/small.txt", f"{filled}/moved.txt")
    assert fs.cat_file(f"{filled}/copy.bin") == LARGE
    assert fs.find(filled) == [f"{filled}/{name}" for name in ("copy.bin", "inner/large.bin", "moved.txt")]
    fs.rm_file(f"{filled}/moved.txt")
    fs.rm(f"{filled}/inner", recursive=True)
    fs.rmdir(f"{filled}/empty")
    assert fs.find(filled) == [f"{filled}/copy.bin"]


def test_what_is_not_there_is_not_found(filled: str, fs: StoreFileSystem, tmp_path: Path) -> None:
    missing = f"{filled}/missing"
    for act in (fs.info, fs.cat_file, fs.rm_file, fs.ls, lambda path: fs.get_file(path, str(tmp_path / "x"))):
        with pytest.raises(FileNotFoundError):
            act(missing)
    with pytest.raises(FileNotFoundError, match="no store"):
        StoreFileSystem().pipe_file(f"file{tmp_path}/nowhere/x", b"x")


def test_directories_are_no_files_and_hold_what_is_in_them(filled: str, fs: StoreFileSystem) -> None:
    for act in (lambda: fs.pipe_file(f"{filled}/inner", b"x"), lambda: fs.open(f"{filled}/inner")):
        with pytest.raises(IsADirectoryError):
            act()
    with pytest.raises(OSError, match="not empty"):
        fs.rmdir(f"{filled}/inner")
    with pytest.raises(FileExistsError):
        fs.mkdir(f"{filled}/inner")
    with pytest.raises(ValueError, match="mode 'ab'"):
        fs.open(f"{filled}/small.txt", "ab")


def test_what_a_failed_block_wrote_is_not_stored(filled: str, fs: StoreFileSystem) -> None:
    def fail() -> None:
        with fs.open(f"{filled}/half.txt", "wb") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not fs.exists(f"{filled}/half.txt")


def test_a_file_that_cannot_be_looked_at_is_named_and_not_left_out(
    filled: str, fs: StoreFileSystem, root: tuple[str, dict[str, str]]
) -> None:
    store, inside = Store.find(f"{root[0]}/small.txt", root[1])
    store.transport.write(key_of(inside), b"no manifest")
    for look in (fs.ls, fs.du, lambda path: fs.find(path, detail=True)):
        with pytest.raises(DvcException, match=r"the manifest of \S*small\.txt"):
            look(filled)
    assert f"{filled}/small.txt" in fs.ls(filled, detail=False)
    assert f"{filled}/small.txt" in fs.find(filled)


def test_a_name_that_looks_like_a_pattern_is_removed_and_no_other(filled: str, fs: StoreFileSystem) -> None:
    for name in ("x1.csv", "x[1].csv", "y1.csv"):
        fs.pipe_file(f"{filled}/{name}", b"x")
    fs.rm(f"{filled}/x[1].csv")
    assert fs.exists(f"{filled}/x1.csv")
    assert not fs.exists(f"{filled}/x[1].csv")
    fs.rm([f"{filled}/x1.csv", f"{filled}/y*.csv"])
    assert not [each for each in fs.ls(filled, detail=False) if each.endswith(".csv")]


def test_a_file_that_is_removed_while_it_is_listed_is_left_out(
    filled: str, fs: StoreFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(described, "files_below", lambda *_: ["some/gone.txt", "some/small.txt"])
    monkeypatch.setattr(described, "names_below", lambda *_: ([], ["some/gone.txt", "some/small.txt"]))
    assert list(fs.find(filled, detail=True)) == [f"{filled}/small.txt"]
    assert [info["name"] for info in fs.ls(filled)] == [f"{filled}/small.txt"]


def test_names_with_control_characters_are_listed_and_read(
    fs: StoreFileSystem, root: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    names = ["new\nline", "tab\t", "below\x7f/plain"]
    for name in names:
        (tmp_path / "odd" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "odd" / name).write_text(name)
    url, options = root
    Store.find(url, options)[0].put(tmp_path / "odd", "some")
    paths = {f"{url.removeprefix('shardflow://')}/{name}" for name in names}
    assert set(fs.find(url, detail=True)) == set(fs.find(url)) == paths
    assert {info["name"] for info in fs.ls(url) if info["type"] == "file"} == {
        path for path in paths if "\x7f" not in path
    }
    fs.get(url, str(tmp_path / "got"), recursive=True)
    assert {name: (tmp_path / "got" / name).read_text() for name in names} == {name: name for name in names}


def test_a_transaction_stores_at_its_end(filled: str, fs: StoreFileSystem) -> None:
    with fs.transaction:
        fs.pipe_file(f"{filled}/later.txt", b"later")
        assert not fs.exists(f"{filled}/later.txt")
    assert fs.cat_file(f"{filled}/later.txt") == b"later"


def test_a_progress_bar_hears_of_every_byte(filled: str, fs: StoreFileSystem, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(LARGE)
    md5 = hashlib.md5(LARGE).hexdigest()
    for name in (f"{filled}/files/md5/{md5[:2]}/{md5[2:]}", f"{filled}/plain"):
        up, down = Callback(), Callback()
        fs.put_file(str(tmp_path / "file"), name, callback=up)
        fs.get_file(name, str(tmp_path / "back"), callback=down)
        assert (up.size, up.value, down.value) == (len(LARGE), len(LARGE), len(LARGE))


@pytest.mark.parametrize("way", ["put_file", "open"])
def test_of_two_that_create_a_file_at_once_one_is_refused(
    filled: str, fs: StoreFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The other one creates it after this one saw that there is none."""
    ours, theirs, name = tmp_path / "ours", tmp_path / "theirs", f"{filled}/new"
    ours.write_bytes(b"ours")
    theirs.write_bytes(b"theirs")
    look = fs.exists

    def outdated(path: str) -> bool:
        monkeypatch.setattr(fs, "exists", look)
        found = look(path)
        fs.put_file(str(theirs), name, mode="create")
        return found

    def create() -> None:
        if way == "put_file":
            fs.put_file(str(ours), name, mode="create")
        else:
            with fs.open(name, "xb") as file:
                file.write(b"ours")

    monkeypatch.setattr(fs, "exists", outdated)
    with pytest.raises(FileExistsError):
        create()
    assert fs.cat_file(name) == b"theirs"


def test_a_file_is_not_created_below_another_file(filled: str, fs: StoreFileSystem, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(IsADirectoryError):
        fs.put_file(str(tmp_path / "file"), f"{filled}/small.txt/inner", mode="create")


def test_urls_work_with_fsspec_itself(root: tuple[str, dict[str, str]]) -> None:
    url, options = root
    with fsspec.open(f"{url}/text.txt", "w", **options) as file:
        file.write("hello")
    with fsspec.open(f"{url}/text.txt", **options) as file:
        assert file.read() == b"hello"
