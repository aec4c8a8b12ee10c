"""Which failures of a server are tried again, how often, and what the user is told of the others."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from shardflow.transport import (
    AccessDenied,
    AlreadyThere,
    BucketMissing,
    ObjectMissing,
    RetryPolicy,
    StoreURL,
    Transport,
    TransportError,
    Truncated,
    Unreachable,
    connect,
)
from transport.conftest import IMPATIENT, options_for
from transport.scripted_s3 import RESET, SHORT, STALL, ScriptedS3, Stored, status

if TYPE_CHECKING:
    from collections.abc import Callable

PASSING = {
    "429": status(429),
    "408": status(408),
    "500": status(500, "InternalError"),
    "502": status(502),
    "503": status(503, "SlowDown"),
    "504": status(504),
    "connection reset": RESET,
}
TOLD_BY_CODE = {
    "400 RequestTimeout": status(400, "RequestTimeout"),
    "409 ConditionalRequestConflict": status(409, "ConditionalRequestConflict"),
}
FINAL = {
    "400": (status(400, "MalformedXML"), TransportError, "400 Bad Request [(]MalformedXML[)]"),
    "401": (status(401), AccessDenied, "AWS_ACCESS_KEY_ID"),
    "403": (status(403, "SignatureDoesNotMatch"), AccessDenied, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "expired token": (status(400, "ExpiredToken"), AccessDenied, "ExpiredToken"),
    "404": (status(404, "NoSuchKey"), ObjectMissing, "some in .* is not there"),
    "no bucket": (status(404, "NoSuchBucket"), BucketMissing, "no such bucket"),
    "409": (status(409, "BucketNotEmpty"), AlreadyThere, "already there"),
    "501": (status(501, "NotImplemented"), TransportError, "501 Not Implemented"),
    "wrong region": (status(301, "PermanentRedirect"), TransportError, "another region.*AWS_REGION"),
}
CALLS: dict[str, Callable[[Transport], object]] = {
    "read": lambda s3: s3.read("some"),
    "read_range": lambda s3: s3.read_range("some", 0, 4),
    "head": lambda s3: s3.head("some"),
    "write": lambda s3: s3.write("some", b"data"),
    "create": lambda s3: s3.write("other", b"data", if_absent=True),
    "delete": lambda s3: s3.delete("some"),
    "list": lambda s3: list(s3.list()),
    "list_names": lambda s3: s3.list_names(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("fault", PASSING)
def test_what_may_pass_is_tried_again(server: ScriptedS3, s3: Transport, call: str, fault: str) -> None:
    s3.write("some", b"data")
    server.next(".", PASSING[fault], PASSING[fault])
    CALLS[call](s3)
    assert server.unmet == 0
    assert s3.totals.retries == 2


@pytest.mark.parametrize("call", ["read", "write", "create", "list"])
@pytest.mark.parametrize("fault", TOLD_BY_CODE)
def test_a_code_that_says_later_counts_more_than_its_status(
    server: ScriptedS3, s3: Transport, call: str, fault: str
) -> None:
    s3.write("some", b"data")
    server.next(".", TOLD_BY_CODE[fault])
    CALLS[call](s3)
    assert s3.totals.retries == 1


@pytest.mark.parametrize("fault", FINAL)
def test_what_will_not_pass_is_told_at_once(server: ScriptedS3, s3: Transport, fault: str) -> None:
    failure, kind, told = FINAL[fault]
    server.next(".", failure)
    with pytest.raises(kind, match=told) as raised:
        s3.read("some")
    assert len(server.requests) == 1
    assert s3.totals.retries == 0
    assert_reads_well(raised.value)


def assert_reads_well(error: TransportError) -> None:
    """One line, names the store, gives nothing secret or internal away."""
    text = str(error)
    assert "\n" not in text
    assert "shardflow://s3/bkt" in text
    assert len(text) < 400
    for inner in ("not-to-be-shown", "Debug source", "Generic {", "reqwest"):
        assert inner not in text


def test_a_body_that_broke_off_is_read_again(server: ScriptedS3, s3: Transport) -> None:
    s3.write("some", b"0123456789" * 1000)
    server.next("GET some", SHORT, SHORT)
    assert s3.read("some") == b"0123456789" * 1000
    assert s3.totals.retries == 2
    assert s3.totals.bytes_received == 10_000


def test_attempts_end_and_the_last_failure_is_told(server: ScriptedS3, s3: Transport) -> None:
    server.next("GET", *[status(503, "SlowDown")] * 10)
    with pytest.raises(
        Unreachable, match=r"503 Service Unavailable \(SlowDown\) \(tried 4 times in 0.\d s\)"
    ) as raised:
        s3.read("some")
    assert len(server.requests) == 4
    assert s3.totals.retries == 3
    assert server.endpoint in str(raised.value)
    assert_reads_well(raised.value)


def test_a_body_that_always_breaks_off_is_unreachable(server: ScriptedS3, s3: Transport) -> None:
    s3.write("some", b"0123456789" * 1000)
    server.next("GET some", *[SHORT] * 4)
    with pytest.raises(Unreachable, match="the answer broke off") as raised:
        s3.read_range("some", 0, 10_000)
    assert_reads_well(raised.value)


def test_an_object_that_is_too_short_is_not_asked_for_again(server: ScriptedS3, s3: Transport) -> None:
    s3.write("some", b"0123456789")
    with pytest.raises(Truncated, match=r"some in .* wanted 20 bytes at 5, got 5") as raised:
        s3.read_range("some", 5, 20)
    assert (raised.value.wanted, raised.value.got) == (20, 5)
    assert len(server.asked("GET")) == 1


def test_a_refused_connection_names_the_endpoint() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        options = {"endpoint": endpoint, "access_key_id": "KEYID", "secret_access_key": "not-to-be-shown"}
        s3 = connect(StoreURL.parse("shardflow://s3/bkt"), options, IMPATIENT)
        with pytest.raises(Unreachable, match=f"at {endpoint}: connection refused .tried 4 times") as raised:
            s3.read("some")
    assert_reads_well(raised.value)


@pytest.mark.parametrize("word", ["InvalidCertificate", "dns%20error", "TimedOut", "BadScheme", "status:%20403"])
def test_words_in_a_key_do_not_confuse_it(server: ScriptedS3, s3: Transport, word: str) -> None:
    key = f"tree/{word}/<Code>NoSuchBucket<~Code>"
    with pytest.raises(ObjectMissing):
        s3.read(key)
    server.next("GET", *[RESET] * 4)
    with pytest.raises(Unreachable, match=r"connection (reset|closed)"):
        s3.read(key)


def test_a_host_that_is_not_found_is_named() -> None:
    options = {"endpoint": "http://nowhere.invalid", "access_key_id": "KEYID", "secret_access_key": "not-to-be-shown"}
    s3 = connect(StoreURL.parse("shardflow://s3/bkt"), options, RetryPolicy(attempts=1))
    with pytest.raises(Unreachable, match=r"at http://nowhere.invalid: host name not found"):
        s3.read("some")


def test_a_server_that_never_answers_is_given_up(server: ScriptedS3) -> None:
    s3 = connect(StoreURL.parse("shardflow://s3/bkt"), {**options_for(server), "timeout": "1"}, IMPATIENT)
    server.next("HEAD", STALL, STALL)
    with pytest.raises(ObjectMissing):
        s3.head("some")
    assert s3.totals.retries == 2


def test_a_listing_goes_on_where_it_broke_off(server: ScriptedS3, s3: Transport) -> None:
    for number in range(2500):
        server.objects[f"many/{number:05}"] = Stored(b"")
    listing = s3.list("many")
    keys = [next(listing).key]
    server.next("list-type", RESET, status(503))
    keys += [info.key for info in listing]
    assert keys == [f"many/{number:05}" for number in range(2500)]
    assert s3.totals.retries == 2
