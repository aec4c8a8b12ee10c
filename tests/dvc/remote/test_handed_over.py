"""What DVC hands over at the same time, to a store on a disk: stored together, each with its own outcome."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc_objects.fs import generic
from dvc_objects.fs.local import localfs
from fsspec.callbacks import Callback

from dvc_support.commands import remote_options
from services.fixtures import fresh_url
from services.service import Service
from shardflow.dvc import handed_over
from shardflow.dvc.filesystem import StoreFileSystem
from shardflow.dvc.handed_over import HandedOverFileSystem, best_together
from shardflow.dvc.remote import ShardflowFileSystem
from shardflow.dvc.transferring import transfers_of
from shardflow.store.store import Store
from shardflow.transport import NewObject, Transport

LARGE = bytes(range(256)) * 1000
MOST = 16


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"shardflow://file{tmp_path}/store"


@pytest.fixture
def fs(url: str, monkeypatch: pytest.MonkeyPatch) -> ShardflowFileSystem:
    """As DVC makes it for a remote on a disk that forces many files at once; whatever disk the tests run on."""
    monkeypatch.setattr("shardflow.dvc.remote.best_together", lambda _: MOST)
    return ShardflowFileSystem(url=url, root=url)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many objects were written at a time."""
    sizes: list[int] = []
    real = Transport.write_all

    def noted(self: Transport, objects: list[NewObject]) -> Any:
        sizes.append(len(objects))
        return real(self, objects)

    monkeypatch.setattr(Transport, "write_all", noted)
    return sizes


def object_path(url: str, content: bytes) -> str:
    name = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return f"{url.removeprefix('shardflow://')}/files/md5/{name[:2]}/{name[2:]}"


def made(directory: Path, contents: list[bytes]) -> list[str]:
    directory.mkdir()
    for number, content in enumerate(contents):
        (directory / str(number)).write_bytes(content)
    return [str(directory / str(number)) for number in range(len(contents))]


def push(fs: ShardflowFileSystem, files: list[str], paths: list[str]) -> dict[str, BaseException]:
    """As DVC pushes objects; what each failed with."""
    failures: dict[str, BaseException] = {}

    def note(file: str, path: str, error: BaseException) -> None:
        failures[file] = error

    generic.transfer(localfs, files, fs, paths, on_error=note, batch_size=fs.jobs)
    return failures


def test_many_small_files_are_written_a_batch_at_a_time_and_come_back(
    fs: ShardflowFileSystem, url: str, tmp_path: Path, batches: list[int]
) -> None:
    contents = [b"%d" % number * 10 for number in range(100)]
    paths = [object_path(url, content) for content in contents]
    assert push(fs, made(tmp_path / "files", contents), paths) == {}
    assert max(batches) == MOST
    assert len(batches) <= 100 // MOST + 3
    store = Store.find(url)[0]
    assert [store.open(path.partition("store/")[2]).read() for path in paths] == contents

    targets = [str(tmp_path / "back" / str(number)) for number in range(100)]
    generic.copy(fs, paths, localfs, targets, batch_size=8)
    assert [Path(target).read_bytes() for target in targets] == contents


def test_large_ones_and_those_that_fail_are_dealt_with_by_themselves(
    fs: ShardflowFileSystem, url: str, tmp_path: Path
) -> None:
    contents = [b"small", LARGE, b"removed", b"no place for it", b"", LARGE[::-1]]
    files = made(tmp_path / "files", contents)
    paths = [object_path(url, content) for content in contents]
    Path(files[2]).unlink()
    Store.init(url).transport.write(f"tree/{Path(paths[3]).parent.relative_to(url[len('shardflow://') :])}", b"")
    failures = push(fs, files, paths)
    assert set(failures) == {files[2], files[3]}
    assert "does not exist" in str(failures[files[2]])
    assert "a file stands where a directory is needed" in str(failures[files[3]])
    assert [fs.fs.cat_file(paths[number]) for number in (0, 1, 4, 5)] == [contents[number] for number in (0, 1, 4, 5)]


def test_what_is_no_object_is_stored_with_its_md5_and_directories_are_made(
    fs: ShardflowFileSystem, url: str, tmp_path: Path
) -> None:
    files = made(tmp_path / "files", [b"one", b"two"])
    below = url.removeprefix("shardflow://")
    (tmp_path / "files" / "inner").mkdir()
    push(fs, [*files, str(tmp_path / "files" / "inner")], [f"{below}/1.txt", f"{below}/2.txt", f"{below}/inner"])
    assert fs.fs.info(f"{below}/1.txt")["md5"] == hashlib.md5(b"one", usedforsecurity=False).hexdigest()
    assert fs.fs.isdir(f"{below}/inner")


def test_what_cannot_be_fetched_fails_by_name_and_leaves_nothing(
    fs: ShardflowFileSystem, url: str, tmp_path: Path
) -> None:
    contents = [b"whole", b"damaged", LARGE]
    paths = [object_path(url, content) for content in contents]
    push(fs, made(tmp_path / "files", contents), paths)
    store = Store.find(url)[0]
    store.transport.write(f"tree/{paths[1].partition('store/')[2]}", b"not a manifest")
    paths.append(object_path(url, b"missing"))
    targets = [str(tmp_path / "back" / str(number)) for number in range(4)]
    failures: dict[str, str] = {}
    generic.copy(
        fs, paths, localfs, targets, on_error=lambda path, _, error: failures.update({path: str(error)}), batch_size=4
    )
    assert set(failures) == {paths[1], paths[3]}
    assert "is not a manifest" in failures[paths[1]]
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["0", "2"]


def test_a_list_is_fetched_side_by_side_and_a_tree_as_ever(fs: ShardflowFileSystem, url: str, tmp_path: Path) -> None:
    below = url.removeprefix("shardflow://") + "/some"
    fs.fs.pipe_file(f"{below}/a", b"a")
    fs.fs.pipe_file(f"{below}/inner/b", LARGE)
    done = Callback()
    targets = [str(tmp_path / "a"), str(tmp_path / "b")]
    fs.fs.get([f"{below}/a", f"{below}/inner/b"], targets, callback=done)
    assert (done.size, done.value) == (2, 2)
    assert (tmp_path / "b").read_bytes() == LARGE
    fs.fs.get(below, str(tmp_path / "tree"), recursive=True)
    assert (tmp_path / "tree" / "inner" / "b").read_bytes() == LARGE
    assert sorted(fs.find([f"{below}/inner", below])) == [f"{below}/a", *[f"{below}/inner/b"] * 2]


def test_what_must_not_replace_does_not(fs: ShardflowFileSystem, url: str, tmp_path: Path) -> None:
    (file,) = made(tmp_path / "files", [b"content"])
    path = object_path(url, b"content")
    push(fs, [file], [path])
    with pytest.raises(FileExistsError):
        asyncio.run(fs.fs._put_file(file, path, mode="create"))


def test_only_places_that_gain_by_it_get_it(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardflow.transport.local.disk_below", lambda _: None)
    assert best_together(url) == 1
    plain = ShardflowFileSystem(url=url, root=url)
    assert type(plain.fs) is StoreFileSystem
    assert plain.jobs == ShardflowFileSystem._JOBS
    assert best_together("shardflow://s3/bucket/store") == 1
    assert best_together("shardflow://memory/store") == 1
    assert best_together("") == best_together("shardflow:///nowhere") == 1


@pytest.mark.parametrize(("given", "jobs"), [({}, 2 * MOST), ({"jobs": 3}, 3)])
def test_so_many_are_taken_at_a_time_unless_the_user_says(
    fs: ShardflowFileSystem, url: str, given: dict[str, Any], jobs: int
) -> None:
    made = ShardflowFileSystem(url=url, root=url, **given)
    assert made.jobs == jobs
    assert isinstance(made.fs, HandedOverFileSystem)


def test_what_waits_for_a_thread_waits_where_it_can_be_given_up(
    fs: ShardflowFileSystem, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool works off all that was handed to it before the process may end."""
    queued: list[int] = []
    real: Callable[..., None] = HandedOverFileSystem.put_file

    def noted(self: HandedOverFileSystem, *arguments: Any, **options: Any) -> None:
        queued.append(self._threads._work_queue.qsize())
        real(self, *arguments, **options)

    monkeypatch.setattr(HandedOverFileSystem, "put_file", noted)
    contents = [LARGE + bytes([number]) for number in range(3 * handed_over.THREADS)]
    fs.jobs = len(contents)
    assert push(fs, made(tmp_path / "files", contents), [object_path(url, content) for content in contents]) == {}
    assert max(queued) <= handed_over.THREADS


def test_several_remotes_share_the_threads_the_loop_and_the_memory_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shardflow.dvc.remote.best_together", lambda _: MOST)
    contents = [LARGE + bytes([number]) for number in range(2 * handed_over.THREADS)] + [b"small", b"smaller"]
    files = made(tmp_path / "files", contents)
    stores, others = [], set(threading.enumerate())
    for name in ("one", "two", "three"):
        url = f"shardflow://file{tmp_path}/{name}"
        fs = ShardflowFileSystem(url=url, root=url)
        fs.jobs = len(files)
        assert push(fs, files, [object_path(url, content) for content in contents]) == {}
        stores.append(Store.find(url)[0])
    names = [thread.name for thread in threading.enumerate() if thread not in others]
    threads = Counter(name.rpartition("_")[0] or name for name in names)
    assert threads["shardflow-files"] <= handed_over.THREADS
    assert threads["shardflow-asked"] <= 1
    assert [thread.name for thread in threading.enumerate()].count("fsspecIO") == 1
    assert len({id(store.budget) for store in stores}) == 1


def test_two_remotes_at_one_place_share_what_moves_files(moto: Service) -> None:
    url = fresh_url(moto)
    options = {"root": url, **remote_options(moto.options)}
    one, two = (ShardflowFileSystem(url=url, **options) for _ in range(2))
    path = object_path(url, LARGE)
    moving = [transfers_of(fs.fs._places.to_write(path)[0]) for fs in (one, two)]
    assert moving[0] is moving[1]
