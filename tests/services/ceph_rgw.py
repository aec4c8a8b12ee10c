"""Ceph's S3 gateway over a cluster of one: a real object store, with authentication and data on disk.

One monitor, one OSD and the gateway, in the foreground as children of the test run; no root, no systemd, no manager
daemon (it only gathers statistics). The packages are Debian's.
"""

from __future__ import annotations

import configparser
import os
import shutil
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.process import ServerProcess, answers, clean_environment, free_port, run
from services.s3_buckets import ACCESS_KEY, SECRET_KEY, s3_service
from services.service import ServerFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from services.service import Service

PROGRAMS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
GIB = 1 << 30


def missing() -> str | None:
    """Why Ceph can not run here; None when it can."""
    absent = [program for program in PROGRAMS if not shutil.which(program)]
    if not absent:
        return None
    found_some = f" ({', '.join(absent)})" if len(absent) < len(PROGRAMS) else ""
    return f"not installed{found_some}; 'make services' installs it"


@contextmanager
def running(home: Path) -> Iterator[Service]:
    """A cluster and its gateway for as long as the context lasts."""
    cluster = _Cluster(home, mon_port=free_port(), gateway_port=free_port())
    cluster.prepare()
    url = f"http://127.0.0.1:{cluster.gateway_port}/"
    with ExitStack() as daemons:
        daemons.enter_context(cluster.daemon("ceph-mon", "-i", "a"))
        cluster.add_osd()
        daemons.enter_context(cluster.daemon("ceph-osd", "-i", "0"))
        cluster.add_user()
        gateway = daemons.enter_context(cluster.daemon("radosgw", "-n", "client.rgw"))
        gateway.wait_until(lambda: answers(url))
        yield s3_service("ceph_rgw", cluster.gateway_port, home / "client.rgw.log")


@dataclass(frozen=True, slots=True)
class _Cluster:
    home: Path
    mon_port: int
    gateway_port: int

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def conf(self) -> Path:
        return self.data / "ceph.conf"

    def tool(self, *argv: str) -> None:
        run([argv[0], "-c", str(self.conf), *argv[1:]], self.home / "setup.log", clean_environment(self.home))

    def daemon(self, program: str, *arguments: str) -> ServerProcess:
        argv = [program, "-c", str(self.conf), "-f", *arguments]
        return ServerProcess(argv, self.home / f"{program}.log", clean_environment(self.home))

    def prepare(self) -> None:
        """The cluster's settings, its keyring and the monitor's first state."""
        for folder in ("mon", "osd", "rgw", "run"):
            (self.data / folder).mkdir(parents=True)
        fsid = str(uuid.uuid4())
        settings = configparser.ConfigParser(interpolation=None)
        settings.read_dict(self.settings(fsid))
        with self.conf.open("w") as file:
            settings.write(file)
        keyring, monmap = str(self.data / "keyring"), str(self.data / "monmap")
        self.tool("ceph-authtool", keyring, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        self.tool("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{self.mon_port}]", monmap)
        self.tool("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def add_osd(self) -> None:
        """The one OSD: made on disk, then made known to the monitor."""
        osd_id = str(uuid.uuid4())
        self.tool("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd_id)
        self._ask("osd", "new", osd_id, "0")
        self._ask("osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")

    def _ask(self, *command: str) -> None:
        """A command to the monitor, which refuses some while it is still electing itself."""
        for attempts_left in reversed(range(10)):
            try:
                self.tool("ceph", *command)
                return
            except ServerFailed:
                if not attempts_left:
                    raise
                time.sleep(0.5)

    def add_user(self) -> None:
        keys = (f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}")
        self.tool("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", "--max-buckets=100000", *keys)

    def settings(self, fsid: str) -> dict[str, dict[str, str]]:
        """The contents of ceph.conf; everything that is not here keeps Ceph's default."""
        return {
            "global": {
                "fsid": fsid,
                "mon host": f"v1:127.0.0.1:{self.mon_port}",
                "public addr": "127.0.0.1",
                "cluster addr": "127.0.0.1",
                "auth cluster required": "none",
                "auth service required": "none",
                "auth client required": "none",
                "osd pool default size": "1",
                "osd pool default min size": "1",
                "osd pool default pg num": "8",
                "osd crush chooseleaf type": "0",
                "mon allow pool size one": "true",
                "mon max pg per osd": "1000",
                "run dir": str(self.data / "run"),
                "admin socket": "",  # its path would be too long for a socket in many a temporary folder
                "keyring": str(self.data / "keyring"),
                "log file": str(self.home / "$name.log"),
            },
            "mon": {
                "mon data": str(self.data / "mon"),
                "mon cluster log file": str(self.home / "cluster.log"),
                "mon data avail warn": "2",
                "mon data avail crit": "1",
                # The default batches changes for a second each; here that second is most of the start-up.
                "paxos propose interval": "0.05",
                "paxos min wait": "0.01",
            },
            "osd": {
                "osd data": str(self.data / "osd"),
                "osd objectstore": "bluestore" if _takes_direct_io(self.data) else "memstore",
                "osd memory target": str(1 * GIB),
                "osd crush update on start": "false",
                "osd class update on start": "false",
                "osd class load list": "*",
                "osd class default list": "*",
                "bluestore block size": str(20 * GIB),  # a sparse file: takes what is written
                "memstore device bytes": str(4 * GIB),
            },
            "client.rgw": {
                # Without it every answer with a body waits 40 ms for an acknowledgement.
                "rgw frontends": f"beast endpoint=127.0.0.1:{self.gateway_port} tcp_nodelay=1",
                "rgw data": str(self.data / "rgw"),
                "rgw dns name": "127.0.0.1",
                "rgw thread pool size": "64",
                "rgw dynamic resharding": "false",
                "rgw enable usage log": "false",
            },
        }


def _takes_direct_io(folder: Path) -> bool:
    """Whether files here can be opened past the page cache, as BlueStore does; tmpfs refuses on older kernels."""
    try:
        os.close(os.open(folder / "direct-io", os.O_CREAT | os.O_RDWR | os.O_DIRECT))
    except OSError:
        return False
    return True
