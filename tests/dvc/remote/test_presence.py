"""Which of many paths exist: the answer is the same whether it comes from questions or from listings."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from shardflow.dvc import presence
from shardflow.dvc.presence import present
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


def test_nothing_is_there_of_nothing(store: Store) -> None:
    assert present(store, []) == []
