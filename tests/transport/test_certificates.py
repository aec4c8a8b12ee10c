"""Servers whose certificate the system does not know: refused, unless an option names it or asks for no proof."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

from shardflow.errors import ShardflowError
from shardflow.transport import StoreURL, Transport, TransportError, connect
from transport.certificates import own_certificate
from transport.conftest import IMPATIENT, options_for
from transport.scripted_s3 import ScriptedS3, scripted_s3

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    path.write_bytes(own_certificate())
    return path


@pytest.fixture
def server(certificate: Path) -> Iterator[ScriptedS3]:
    """As on a lab's own network."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted_s3(context) as running:
        yield running


def reached(server: ScriptedS3, ssl_verify: str) -> Transport:
    return connect(StoreURL.parse("shardflow://s3/bkt"), options_for(server) | {"ssl_verify": ssl_verify}, IMPATIENT)


@pytest.mark.parametrize("ssl_verify", ["", "true"])
def test_a_certificate_that_nobody_vouches_for_is_refused(server: ScriptedS3, ssl_verify: str) -> None:
    with pytest.raises(TransportError, match="certificate is not trusted"):
        reached(server, ssl_verify).write("some", b"data")
    assert server.objects == {}


@pytest.mark.parametrize("named", [True, False])
def test_one_that_is_named_is_accepted_and_with_false_any_is(
    server: ScriptedS3, certificate: Path, named: bool
) -> None:
    transport = reached(server, str(certificate) if named else "false")
    transport.write("some", b"data")
    assert transport.read("some") == b"data"
    assert transport.conditional_deletes, "asked for without obstore"


def test_another_one_that_is_named_does_not_help(server: ScriptedS3, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(own_certificate())
    with pytest.raises(TransportError, match="certificate is not trusted"):
        reached(server, str(tmp_path / "other.pem")).write("some", b"data")


@pytest.mark.parametrize(("name", "says"), [("gone.pem", "cannot be read"), ("notes.txt", "holds no certificates")])
def test_a_file_that_holds_none_is_named(server: ScriptedS3, tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "notes.txt").write_text("notes")
    with pytest.raises(ShardflowError, match=f"ssl_verify: .*{name} {says}"):
        reached(server, str(tmp_path / name))
