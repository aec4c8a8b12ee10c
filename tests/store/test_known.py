"""A process looks for a store once; what it knows is never taken for a store that is gone, or for another one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.fixtures import fresh_url
from services.service import Service
from shardflow.store import known
from shardflow.store.config import Settings
from shardflow.store.errors import BadPath, StoreMissing
from shardflow.store.store import Store
from shardflow.transport import StoreURL


@pytest.fixture
def url(store_url: str) -> StoreURL:
    return StoreURL.parse(store_url)


def nobody(root: StoreURL) -> None:
    pytest.fail(f"a store was made at {root}")


def test_a_store_is_looked_for_once_and_serves_all_that_lies_below_it(
    url: StoreURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Store.init(url)
    store, path = known.found(url.joined("a/b"))
    assert (store.url, store.config.id, path) == (url, made.config.id, "a/b")
    monkeypatch.setattr(Store, "find", nobody)
    assert known.found(url.joined("c")) == (store, "c")
    assert known.found(url) == (store, "")
    assert known.found_to_write(url.joined("d"), url, nobody) == (store, "d")


def test_where_no_store_is_reading_fails_and_each_time_it_is_looked_for_anew(url: StoreURL) -> None:
    with pytest.raises(StoreMissing):
        known.found(url.joined("a"))
    Store.init(url)
    assert known.found(url.joined("a"))[1] == "a"


def test_a_first_write_makes_a_store_at_the_root_and_says_so(url: StoreURL) -> None:
    told: list[StoreURL] = []
    store, path = known.found_to_write(url.joined("remote/x"), url.joined("remote"), told.append)
    assert (store.url, path, told) == (url.joined("remote"), "x", [url.joined("remote")])
    assert known.found_to_write(url.joined("remote/y"), url.joined("remote"), nobody) == (store, "y")


def test_first_writers_that_come_at_once_get_one_store(url: StoreURL) -> None:
    told: list[StoreURL] = []
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: known.found_to_write(url.joined(str(n)), url, told.append), range(32)))
    assert len({store for store, _ in found}) == 1
    assert sorted(path for _, path in found) == sorted(map(str, range(32)))
    assert told == [url]


def test_the_inner_of_two_known_stores_is_the_one(tmp_path: Path) -> None:
    """Someone moved a store into another."""
    outer, inner = (StoreURL.parse(str(tmp_path / name)) for name in ("out", "out/in"))
    for place in (inner, outer):
        Store.init(place)
        known.found(place)
    assert known.found(inner.joined("x"))[0].url == inner
    assert known.found(outer.joined("x"))[0].url == outer


@pytest.mark.parametrize("made_again", [True, False])
def test_a_store_that_was_removed_is_not_written_to_any_more(tmp_path: Path, made_again: bool) -> None:
    url = StoreURL.parse(str(tmp_path / "store"))
    Store.init(url, Settings(inline_bytes=7))
    old, _ = known.found(url)
    shutil.rmtree(tmp_path / "store")
    if made_again:
        Store.init(url)
    told: list[StoreURL] = []
    new, _ = known.found_to_write(url.joined("x"), url, told.append)
    assert new.config.id != old.config.id
    assert new.config.settings == Settings()
    assert told == ([] if made_again else [url])
    assert known.found(url)[0] is new


def test_what_was_found_with_other_options_is_another_store(moto: Service) -> None:
    url = StoreURL.parse(fresh_url(moto))
    Store.init(url, options=moto.options)
    first, _ = known.found(url, moto.options)
    assert known.found(url, dict(moto.options))[0] is first
    assert known.found(url, {**moto.options, "connect_timeout": "7"})[0] is not first


def test_a_path_that_leads_out_of_the_store_is_refused(url: StoreURL, reopened: Callable[[], Store]) -> None:
    Store.init(url)
    known.found(url)
    with pytest.raises(BadPath):
        known.found(StoreURL(url.backend, f"{url.path}/a/../../b"))
