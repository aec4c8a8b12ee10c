"""Small requests: many at once where each takes its way there and back, one after another where they are next door."""

from __future__ import annotations

import io
import threading

import pytest

from shardflow.store.manifest import decode_manifest
from shardflow.store.parallel import FEW, REQUESTS, in_parallel, requesters
from shardflow.store.store import Store
from shardflow.transport import StoreURL

NEAR, FAR = StoreURL.parse("shardflow://file/somewhere"), StoreURL.parse("shardflow://s3/bucket/somewhere")


def test_results_come_in_the_order_of_what_was_asked_with_any_number_of_threads() -> None:
    for threads in (1, 3, REQUESTS):
        assert list(in_parallel(lambda number: number * 2, range(100), threads)) == list(range(0, 200, 2))


def test_one_thread_is_that_of_the_caller() -> None:
    assert set(in_parallel(lambda _: threading.get_ident(), range(3), 1)) == {threading.get_ident()}


def test_the_first_failure_ends_it_with_one_thread_too() -> None:
    done: list[int] = []

    def work(number: int) -> None:
        done.append(number)
        if number == 1:
            raise ValueError("one")

    with pytest.raises(ValueError, match="one"):
        list(in_parallel(work, range(5), 1))
    assert done == [0, 1]


def test_threads_are_started_for_a_far_store_and_for_many_requests() -> None:
    assert [requesters(NEAR, FEW), requesters(NEAR, FEW + 1), requesters(FAR, 1)] == [1, REQUESTS, REQUESTS]


def test_manifests_come_as_they_are_stored_for_whoever_knows_them(store_url: str) -> None:
    store = Store.init(store_url)
    for name in ("a", "b/c"):
        store.put(io.BytesIO(name.encode()), f"m/{name}")
    unread = dict(store.manifests_unread("m"))
    assert [decode_manifest(data, path).digest for path, data in unread.items()] == [
        manifest.digest for _, manifest in store.manifests("m")
    ]
    assert list(unread) == ["m/a", "m/b/c"]
    assert list(store.manifests_unread("nothing")) == []
