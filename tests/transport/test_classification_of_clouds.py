"""Failures of Google's and Azure's storage: what may pass is tried again, what will not is told at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults.rules import Answer, CutResponse, Faults, LoseResponse, Rule, Truncate
from services.fixtures import Proxied, fresh_url
from services.service import Service
from shardflow.transport import (
    AccessDenied,
    BucketMissing,
    ObjectMissing,
    StoreURL,
    Transport,
    TransportError,
    Unreachable,
    connect,
)
from transport.conftest import IMPATIENT
from transport.test_classification import CALLS

TWICE = 2
DATA = b"0123456789" * 100
PASSING: dict[str, Rule] = {
    "429": Answer(status=429, times=TWICE),
    "500": Answer(status=500, times=TWICE),
    "503": Answer(status=503, times=TWICE),
    "a lost answer": LoseResponse(times=TWICE),
}
BROKEN_OFF: dict[str, Rule] = {
    "by a reset": CutResponse(at=2, times=TWICE),
    "by the end of the connection": Truncate(at=2, times=TWICE),
    "under a length that agrees": Truncate(at=2, relabel=True, times=TWICE),
    "before it began": Truncate(at=0, relabel=True, times=TWICE),
}
WITH_A_BODY = ["read", "read_range", "list", "list_names"]
CREDENTIALS = {"gs": "set GOOGLE_APPLICATION_CREDENTIALS", "az": "set AZURE_STORAGE_CONNECTION_STRING"}
NO_BUCKET = {"gs": "NoSuchBucket", "az": "ContainerNotFound"}


@pytest.fixture(params=["gcs", pytest.param("azure", marks=pytest.mark.service("azure"))])
def cloud(request: pytest.FixtureRequest, fault_proxy: Callable[[Service], Proxied]) -> Proxied:
    """A server, and what stands before it."""
    return fault_proxy(request.getfixturevalue(request.param))


@pytest.fixture
def transport(cloud: Proxied) -> Transport:
    """A transport to a bucket that holds one object."""
    transport = connect(StoreURL.parse(fresh_url(cloud.service)), cloud.service.options, IMPATIENT)
    transport.write("some", DATA)
    cloud.proxy.forget_traffic()
    return transport.session()


def harmed(cloud: Proxied) -> int:
    return cloud.proxy.traffic.harmed().total()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(cloud: Proxied, transport: Transport, call: str, fault: str) -> None:
    cloud.proxy.faults = Faults(rules=(PASSING[fault],))
    CALLS[call](transport)
    assert (harmed(cloud), transport.totals.retries) == (TWICE, TWICE)


@pytest.mark.parametrize("call", WITH_A_BODY)
@pytest.mark.parametrize("fault", BROKEN_OFF)
def test_a_body_that_broke_off_is_read_again(cloud: Proxied, transport: Transport, call: str, fault: str) -> None:
    undisturbed = CALLS[call](transport)
    cloud.proxy.faults = Faults(rules=(BROKEN_OFF[fault],))
    assert CALLS[call](transport) == undisturbed
    assert (harmed(cloud), transport.totals.retries) == (TWICE, TWICE)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 403])
def test_what_is_refused_is_told_at_once_with_what_to_set(
    cloud: Proxied, transport: Transport, call: str, status: int
) -> None:
    cloud.proxy.faults = Faults(rules=(Answer(status=status),))
    with pytest.raises(AccessDenied, match=CREDENTIALS[cloud.service.backend]):
        CALLS[call](transport)
    assert len(cloud.proxy.traffic.requests()) == 1


@pytest.mark.parametrize("call", ["read", "read_range", "head"])
def test_what_is_missing_is_told_at_once(cloud: Proxied, transport: Transport, call: str) -> None:
    cloud.proxy.faults = Faults(rules=(Answer(status=404),))
    with pytest.raises(ObjectMissing, match=r"some in .* is not there"):
        CALLS[call](transport)
    assert len(cloud.proxy.traffic.requests()) == 1


@pytest.mark.parametrize("call", ["read", "write", "list"])
def test_a_missing_bucket_is_told_as_that(cloud: Proxied, transport: Transport, call: str) -> None:
    cloud.proxy.faults = Faults(rules=(Answer(status=404, code=NO_BUCKET[cloud.service.backend]),))
    with pytest.raises(BucketMissing, match="there is no such bucket"):
        CALLS[call](transport)
    assert len(cloud.proxy.traffic.requests()) == 1


@pytest.mark.parametrize("status", [400, 501])
def test_what_the_server_cannot_do_is_told_at_once(cloud: Proxied, transport: Transport, status: int) -> None:
    cloud.proxy.faults = Faults(rules=(Answer(status=status),))
    with pytest.raises(TransportError, match=f"cannot write some in .*: {status} "):
        transport.write("some", DATA)
    assert len(cloud.proxy.traffic.requests()) == 1


def test_attempts_end_and_the_last_failure_is_told(cloud: Proxied, transport: Transport) -> None:
    cloud.proxy.faults = Faults(rules=(Answer(status=503, code="ServerBusy"),))
    with pytest.raises(Unreachable, match=r"503 Service Unavailable \(ServerBusy\) \(tried 4 times in"):
        transport.read("some")
    assert harmed(cloud) == IMPATIENT.attempts
