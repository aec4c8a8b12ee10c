"""What a signature says of a body: its hash where nothing else protects it on its way, and nothing behind TLS."""

from __future__ import annotations

import hashlib
import ssl
from typing import TYPE_CHECKING

import pytest

from shardflow.transport import StoreURL, connect
from transport.certificates import own_certificate
from transport.conftest import IMPATIENT, options_for
from transport.scripted_s3 import ScriptedS3, scripted_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = b"a pack of chunks"
HASHED, UNSIGNED = hashlib.sha256(BODY).hexdigest(), "UNSIGNED-PAYLOAD"


@pytest.fixture
def behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    """A server whose certificate is the only one that is trusted."""
    certificate = tmp_path / "certificate.pem"
    certificate.write_bytes(own_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with scripted_s3(context) as running:
        yield running


def hash_of_what_is_sent(server: ScriptedS3, **options: str) -> str:
    connect(StoreURL.parse("shardflow://s3/bkt"), options_for(server) | options, IMPATIENT).write("some", BODY)
    assert server.objects["some"].data == BODY
    return server.body_hashes[-1]


def test_over_plain_http_the_body_is_signed(server: ScriptedS3) -> None:
    assert hash_of_what_is_sent(server) == HASHED


@pytest.mark.parametrize("name", ["endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url"])
def test_and_so_it_is_by_whatever_name_the_endpoint_is_given(server: ScriptedS3, name: str) -> None:
    options = {**options_for(server), "allow_http": "true"}
    options[name] = options.pop("endpoint")
    connect(StoreURL.parse("shardflow://s3/bkt"), options, IMPATIENT).write("some", BODY)
    assert server.body_hashes == [HASHED]


def test_behind_tls_it_is_not(behind_tls: ScriptedS3) -> None:
    assert hash_of_what_is_sent(behind_tls) == UNSIGNED


@pytest.mark.parametrize("option", ["unsigned_payload", "aws_unsigned_payload"])
def test_a_bucket_that_asks_for_signed_bodies_gets_them_by_an_option(behind_tls: ScriptedS3, option: str) -> None:
    assert hash_of_what_is_sent(behind_tls, **{option: "false"}) == HASHED


def test_or_by_a_variable(behind_tls: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_UNSIGNED_PAYLOAD", "false")
    assert hash_of_what_is_sent(behind_tls) == HASHED


def test_plain_http_goes_unsigned_where_that_is_asked_for(server: ScriptedS3) -> None:
    assert hash_of_what_is_sent(server, unsigned_payload="true") == UNSIGNED
