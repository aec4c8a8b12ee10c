"""A remote on a server of one's own, whose certificate only the remote's options name."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from dvc_support.commands import project, remote_options
from transport.certificates import own_certificate
from transport.conftest import options_for
from transport.scripted_s3 import scripted_s3

pytestmark = pytest.mark.slow


def test_a_server_of_ones_own_is_trusted_once_the_remote_names_its_certificate(tmp_path: Path) -> None:
    certificate = tmp_path / "lab.pem"
    certificate.write_bytes(own_certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with scripted_s3(context) as server:
        here = project(tmp_path / "here", "shardflow://s3/bkt", remote_options(options_for(server)))
        (here.root / "a.txt").write_text("a")
        here.must("add", "a.txt")
        refused = here.dvc("push")
        assert refused.code != 0
        assert "certificate is not trusted" in refused.err
        assert server.objects == {}

        here.must("remote", "modify", "--local", "store", "ssl_verify", str(certificate))
        here.must("push")
        assert "in sync" in here.must("status", "-c")
