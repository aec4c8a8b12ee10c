"""Azurite, Microsoft's own emulator of Azure Blob Storage: from npm, found in `.services/` or on PATH."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import urllib.request
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import TYPE_CHECKING

from services.process import ServerProcess, answers, clean_environment, free_port
from services.service import Service

if TYPE_CHECKING:
    from collections.abc import Iterator

# The account that Azurite's documentation gives to everyone.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
API_VERSION = "2021-08-06"
PROJECT_BIN = Path(__file__).parents[2] / ".services" / "node_modules" / ".bin"


def program() -> str | None:
    """Where azurite-blob is, the project's own copy first."""
    return shutil.which("azurite-blob", path=PROJECT_BIN) or shutil.which("azurite-blob")


def missing() -> str | None:
    """Why Azurite can not run here; None when it can."""
    if program() and shutil.which("node"):
        return None
    return "not installed; 'make services' installs it"


@contextmanager
def running(home: Path) -> Iterator[Service]:
    """Azurite's blob service for as long as the context lasts."""
    port = free_port()
    blobs = home / "data"
    argv = [str(program()), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(blobs)]
    argv += ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    with ServerProcess(argv, home / "azurite.log", clean_environment(home)) as server:
        server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/{ACCOUNT}"))
        yield _service(f"http://127.0.0.1:{port}/{ACCOUNT}", home / "azurite.log")


def _service(endpoint: str, log: Path) -> Service:
    return Service(
        name="azurite",
        backend="az",
        endpoint=endpoint,
        options={"account_name": ACCOUNT, "account_key": KEY, "endpoint": endpoint},
        env={
            "AZURE_STORAGE_CONNECTION_STRING": f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint}",
        },
        make_bucket=lambda container: _make_container(endpoint, container),
        log=log,
    )


def _make_container(endpoint: str, container: str) -> None:
    """Create Container, signed with the Shared Key scheme here, so that no Azure SDK is needed for one request."""
    date, kind = formatdate(usegmt=True), "application/octet-stream"
    standard_headers = ["", "", "", "", kind, "", "", "", "", "", ""]  # empty but for Content-Type
    azure_headers = [f"x-ms-date:{date}", f"x-ms-version:{API_VERSION}"]
    resource = [f"/{ACCOUNT}/{ACCOUNT}/{container}", "restype:container"]
    text = "\n".join(["PUT", *standard_headers, *azure_headers, *resource])
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers = {
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
        "Content-Type": kind,
        "x-ms-date": date,
        "x-ms-version": API_VERSION,
    }
    url = f"{endpoint}/{container}?restype=container"
    request = urllib.request.Request(url, data=b"", headers=headers, method="PUT")
    urllib.request.urlopen(request, timeout=10).close()
