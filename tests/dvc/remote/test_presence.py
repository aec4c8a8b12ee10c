"""Which of many paths exist: the answer is the same whether it comes from questions or from listings."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest

from shardflow.dvc import presence
from shardflow.dvc.filesystem import StoreFileSystem
from shardflow.dvc.lacking import Lacking
from shardflow.dvc.presence import present
from shardflow.store.lacking import note_lacking
from shardflow.store.paths import key_of
from shardflow.store.store import Store

COUNT = 300


def path_of(number: int) -> str:
    md5 = hashlib.md5(str(number).encode()).hexdigest()
    return f"remote/files/md5/{md5[:2]}/{md5[2:]}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Every even number, and files that have nothing to do with it."""
    files = tmp_path / "files"
    for number in range(0, COUNT, 2):
        file = files / path_of(number)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    (files / "remote" / "other.txt").write_text("other")
    store = Store.init(str(tmp_path / "store"))
    store.put(files)
    return store


@pytest.mark.parametrize("allowed", [0, 1, 50])
def test_all_that_is_there_is_found_however_much_may_be_listed(
    store: Store, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    monkeypatch.setattr(presence, "LISTED_FOR_ONE", allowed)
    paths = [path_of(number) for number in range(COUNT)]
    assert present(store, paths) == [number % 2 == 0 for number in range(COUNT)]


def test_few_paths_are_asked_for_and_many_are_listed(store: Store) -> None:
    few, many = [path_of(number) for number in range(3)], [path_of(number) for number in range(COUNT)]
    listings: list[str] = []
    list_ = store.transport.list
    store.transport.list = lambda prefix="", **kwargs: listings.append(prefix) or list_(prefix, **kwargs)  # type: ignore[assignment, func-returns-value, misc]
    assert present(store, few) == [True, False, True]
    assert listings == []
    present(store, many)
    assert listings == ["tree/remote/files/md5/"]


def test_what_lacks_data_is_asked_for_once_and_only_where_something_is_there(store: Store) -> None:
    lacking = Lacking(store)
    listings: list[str] = []
    list_ = store.transport.list
    store.transport.list = lambda prefix="", **kwargs: listings.append(prefix) or list_(prefix, **kwargs)  # type: ignore[assignment, func-returns-value, misc]
    assert lacking.among([]) == set()
    assert listings == []
    for number in range(0, 10, 2):
        assert lacking.among([path_of(number)]) == set()
        lacking.forget(path_of(number))
    assert listings == ["care/lacking/"]


def test_a_listing_of_a_directory_lacks_what_its_files_lack(store: Store) -> None:
    listings = [f"remote/files/md5/ab/{digit * 30}.dir" for digit in "0123"]
    for path, numbers in zip(listings, ([2, 4], [4, 6], []), strict=False):
        listed = [{"md5": "".join(path_of(number).split("/")[-2:]), "relpath": str(number)} for number in numbers]
        store.put(io.BytesIO(json.dumps(listed).encode()), path)
    store.put(io.BytesIO(b"no listing"), listings[3])
    note_lacking(store.transport, [key_of(path_of(2))], all_known=False)
    assert Lacking(store).among([*listings, path_of(2), path_of(4)]) == {listings[0], listings[3], path_of(2)}


def test_files_of_several_stores_are_there_where_they_lack_nothing(store: Store, tmp_path: Path) -> None:
    other = Store.init(str(tmp_path / "other"))
    for number in range(3):
        other.put(io.BytesIO(b"other"), path_of(number))
    note_lacking(store.transport, [key_of(path_of(2))], all_known=False)
    note_lacking(other.transport, [key_of(path_of(0))], all_known=False)
    paths = [str(each.url.joined(path_of(number))) for number in range(4) for each in (store, other)]
    assert StoreFileSystem().files_exist(paths) == [True, False, False, True, False, True, False, False]


def test_nothing_is_there_of_nothing(store: Store) -> None:
    assert present(store, []) == []
    assert StoreFileSystem().files_exist([]) == []
