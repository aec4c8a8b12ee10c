"""Every server keeps what it is given, through our transport and through the fault proxy, and tells buckets apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from faults.rules import Answer, Faults
from services.fixtures import Proxied, fresh_url
from shardflow.transport import AccessDenied, AlreadyThere, ObjectMissing, StoreURL, Transport, connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.service import Service

LARGE = bytes(range(251)) * (80 << 10)  # 20 MiB: moves in parts


def transport_to(service: Service) -> Transport:
    return connect(StoreURL.parse(fresh_url(service)), service.options)


def test_a_server_keeps_small_and_large_objects(object_store: Service) -> None:
    transport = transport_to(object_store)
    for key, data in (("tree/a b%2Fc+d", b"small"), ("packs/ab/large", LARGE)):
        transport.write(key, data)
        assert bytes(transport.read(key)) == data
    assert bytes(transport.read_range("packs/ab/large", 10_000_000, 1000)) == LARGE[10_000_000:10_001_000]
    assert {info.key: info.size for info in transport.list("")} == {"tree/a b%2Fc+d": 5, "packs/ab/large": len(LARGE)}


def test_a_server_honours_create_only_and_compare_and_swap(object_store: Service) -> None:
    transport = transport_to(object_store)
    first = transport.write("one", b"1", if_absent=True)
    with pytest.raises(AlreadyThere):
        transport.write("one", b"2", if_absent=True)
    second = transport.write("one", b"2", if_match=first.etag)
    assert (bytes(transport.read("one")), second.etag != first.etag) == (b"2", True)


def test_a_server_is_found_by_the_environment_alone(object_store: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_store.env.items():
        monkeypatch.setenv(name, value)
    transport = connect(StoreURL.parse(fresh_url(object_store)))
    transport.write("here", b"it is")
    assert bytes(transport.read("here")) == b"it is"


def test_every_fresh_url_is_a_place_of_its_own(object_store: Service) -> None:
    mine, other = transport_to(object_store), transport_to(object_store)
    mine.write("key", b"mine")
    with pytest.raises(ObjectMissing):
        other.head("key")


def test_signatures_hold_and_bursts_arrive_through_the_proxy(
    object_store: Service, fault_proxy: Callable[[Service], Proxied]
) -> None:
    service, proxy = fault_proxy(object_store)
    transport = transport_to(service)
    proxy.faults = Faults(rules=(Answer(status=503, method="PUT", times=2),))
    transport.write("packs/ab/large", LARGE)
    assert bytes(transport.read("packs/ab/large")) == LARGE
    # When one part of an upload fails, others under way are given up, some before they have an answer.
    assert 503 in [exchange.status for exchange in proxy.traffic.requests("PUT")]
    assert proxy.traffic.sent("PUT") >= len(LARGE)
    assert proxy.traffic.received("GET") == len(LARGE)


def test_ceph_asks_for_credentials(ceph: Service) -> None:
    wrong = {**ceph.options, "secret_access_key": "guessed"}
    with pytest.raises(AccessDenied):
        connect(StoreURL.parse(fresh_url(ceph)), wrong).read("anything")


def test_urls_name_bucket_and_prefix(moto: Service) -> None:
    assert moto.url_for("bucket") == "shardflow://s3/bucket"
    assert moto.url_for("bucket", "a/b") == "shardflow://s3/bucket/a/b"
