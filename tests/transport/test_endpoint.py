"""What counts as the address of a server, and what of it an error may repeat."""

from __future__ import annotations

import pytest

from shardflow.errors import ShardflowError
from shardflow.transport.endpoint import checked_endpoint, without_secrets


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://127.0.0.1:9000",
        "https://s3.eu-north-1.amazonaws.com",
        "HTTPS://host_in-docker:443/",
        "http://[::1]:9000",
        "http://127.0.0.1:10000/devstoreaccount1",
        "https://me.blob.core.windows.net/?sv=2024-01-01&sig=a%2Fb%3D",
        "http://me:secret@host:9000",
        "http://me:p@ss@host",
    ],
)
def test_addresses_of_servers_pass_as_they_are(text: str) -> None:
    assert checked_endpoint(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "http://",
        "http://:9000",
        "http://host:port",
        "http://host:65536",
        "http://host:-1",
        "http://host: 9000",
        "http://host:9000 ",
        "http://host\n",
        "http://a b",
        "http://[::1",
        "http://h\u00f6st",
        "ftp://host",
        "host",
        "127.0.0.1:9000",
    ],
)
def test_anything_else_is_refused_and_named(text: str) -> None:
    with pytest.raises(ShardflowError, match="is no address of a server; write it as http://host:9000") as raised:
        checked_endpoint(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:SECRET@host:x", "with an '@' in it"),
        ("http://me:SECRET/WITH/SLASHES@host", "with an '@' in it"),
        ("me:SECRET@host", "with an '@' in it"),
        ("http://host:x?sig=SECRET", "'http://host:x'"),
    ],
)
def test_what_is_refused_is_named_without_what_may_be_secret(text: str, shown: str) -> None:
    with pytest.raises(ShardflowError) as raised:
        checked_endpoint(text)
    assert f"the endpoint {shown} is" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://me:SECRET@host:9000/a", "http://host:9000/a"),
        ("http://host/a?sig=SECRET failed", "http://host/a failed"),
        ("cannot reach http://SECRET@host, or http://u:SECRET@other", "cannot reach http://host, or http://other"),
        ("http://host:9000/me@home", "http://host:9000/me@home"),
        ("why? me@home", "why? me@home"),
    ],
)
def test_only_what_is_secret_in_urls_is_left_out(text: str, told: str) -> None:
    assert without_secrets(text) == told
