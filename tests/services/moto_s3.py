"""moto's S3 server: comes with pip and is quick to start; asks for no credentials and forgets all when it stops.

It reads an object anew for each range of it, so keep objects at or under 64 MiB.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.process import ServerProcess, answers, clean_environment, free_port
from services.s3_buckets import s3_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from services.service import Service


@contextmanager
def running(home: Path) -> Iterator[Service]:
    """A moto server for as long as the context lasts."""
    port = free_port()
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with ServerProcess(argv, home / "moto.log", clean_environment(home)) as server:
        server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/moto-api/"))
        yield s3_service("moto_s3", port, home / "moto.log")
