"""S3 servers to measure against, and the slow link to them; both are the tests' own, borrowed from `tests/`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from services import ceph_rgw, moto_s3  # found on the path above

if TYPE_CHECKING:
    from faults.proxy import FaultProxy
    from services.service import Service

BUCKET = "benchmarks"


@dataclass(frozen=True, slots=True)
class ObjectServer:
    """A running S3 server: where it really is, and where children see it."""

    name: str
    direct: Service
    seen: Service
    home: Path

    @property
    def client(self) -> Any:
        """A boto3 client that goes to the server itself."""
        import boto3

        options = self.direct.options
        return boto3.client(
            "s3",
            endpoint_url=self.direct.endpoint,
            aws_access_key_id=options["access_key_id"],
            aws_secret_access_key=options["secret_access_key"],
            region_name=options["region"],
        )

    def behind(self, proxy: FaultProxy) -> ObjectServer:
        """The same server, for children that must take the way through a proxy."""
        return self.seen_at(proxy.address)

    def seen_at(self, address: str) -> ObjectServer:
        """The same server, for children that reach it at another address."""
        return replace(self, seen=self.direct.seen_at(address))

    def keys(self, bucket: str) -> dict[str, int]:
        """Every object and its size."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        found = [entry for page in pages for entry in page.get("Contents", [])]
        return {entry["Key"]: entry["Size"] for entry in found}

    def empty(self, bucket: str) -> None:
        """Remove every object and every unfinished upload, and have the space given back now."""
        client = self.client
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
            for upload in page.get("Uploads", []):
                client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        keys = list(self.keys(bucket))
        for start in range(0, len(keys), 1000):
            batch = {"Objects": [{"Key": key} for key in keys[start : start + 1000]], "Quiet": True}
            client.delete_objects(Bucket=bucket, Delete=batch)
        if self.name == "Ceph RGW":
            # The gateway keeps what was deleted for two hours, and a disk would be full of it by then.
            collect = ["radosgw-admin", "-c", str(self.home / "data" / "ceph.conf"), "gc", "process", "--include-all"]
            subprocess.run(collect, check=True, capture_output=True)


def choice(named: str, *, small: bool) -> str:
    """Which server: the real one where it is installed, the quick one for a small run."""
    if named != "auto":
        return named
    return "moto" if small or ceph_rgw.missing() else "ceph"


@contextmanager
def running(kind: str, home: Path) -> Iterator[ObjectServer]:
    """The server, with an empty bucket in it."""
    server, name = (ceph_rgw, "Ceph RGW") if kind == "ceph" else (moto_s3, "moto")
    home.mkdir(parents=True)
    with server.running(home) as service:
        service.make_bucket(BUCKET)
        yield ObjectServer(name, service, service, home)


@contextmanager
def proxy_before(server: ObjectServer) -> Iterator[FaultProxy]:
    """A proxy in front of the server, which counts what passes and can be told to be slow."""
    from faults.proxy import FaultProxy

    with FaultProxy(server.direct.endpoint.split("/")[2]) as proxy:
        yield proxy


def slow(proxy: FaultProxy, round_trip: float, bandwidth: float) -> None:
    """From now on everything takes so long there and back, and each connection carries so many bytes a second."""
    from faults.rules import Faults

    proxy.faults = Faults(latency=round_trip / 2, bandwidth=bandwidth)
