"""A DVC project to measure in, and remotes for it: a store, and what DVC itself offers for the same place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from harness.places import COMPILED, settle, stored_bytes

if TYPE_CHECKING:
    from harness.servers import ObjectServer

DVC = (sys.executable, "-m", "dvc")
BUCKET = "benchmarks"
CONFIG = "[core]\n    analytics = false\n    check_update = false\n    no_scm = true\n"


@dataclass(slots=True)
class Desk:
    """One project without Git, whose commands are timed as whole processes."""

    root: Path
    env: Mapping[str, str]

    @classmethod
    def made(cls, root: Path, env: Mapping[str, str]) -> Desk:
        (root / ".dvc").mkdir(parents=True)
        (root / ".dvc" / "config").write_text(CONFIG)
        own = {
            "DVC_SITE_CACHE_DIR": str(root.parent / "site"),
            "SHARDFLOW_STATE": str(root.parent / "state"),
            "SHARDFLOW_CACHE": str(root.parent / "cache"),
        }
        return cls(root, {**os.environ, **env, **own, **COMPILED})

    def dvc(self, *arguments: str) -> float:
        """Seconds that a command takes, start-up included; a failure ends the benchmark."""
        settle()
        began = time.perf_counter()
        done = subprocess.run([*DVC, *arguments], cwd=self.root, env=self.env, capture_output=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"dvc {' '.join(arguments)} failed: {done.stderr.decode()[-2000:]}")
        return seconds

    def without(self, *names: str) -> None:
        """Forget the cache and some files, as a fresh checkout has them."""
        shutil.rmtree(self.root / ".dvc" / "cache", ignore_errors=True)
        for name in names:
            path = self.root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@dataclass(slots=True)
class Kind:
    """A kind of remote: how a new one is named, and what it holds."""

    name: str
    new_url: Callable[[int], str]
    held: Callable[[str], int]
    options: Mapping[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)

    def add_to(self, desk: Desk) -> tuple[str, str]:
        """A new remote of this kind: its name in the project, and its URL."""
        number = next(self._numbers)
        name, url = f"{self.name.replace(' ', '-')}-{number}".lower(), self.new_url(number)
        desk.dvc("remote", "add", name, url)
        for option, value in self.options.items():
            desk.dvc("remote", "modify", "--local", name, option, value)
        return name, url


def local_kinds(root: Path) -> list[Kind]:
    """A store and a plain directory on the same disk."""

    def below(url: str) -> int:
        return stored_bytes(Path(url.removeprefix("shardflow://file")))

    return [
        Kind("shardflow", lambda number: f"shardflow://file{root}/store-{number}", below),
        Kind("stock local", lambda number: f"{root}/plain-{number}", below),
    ]


def s3_kinds(server: ObjectServer) -> list[Kind]:
    """A store in a bucket, and what dvc-s3 makes of the same bucket."""
    options = {"endpointurl": server.seen.options["endpoint"], "region": server.seen.options["region"]}
    options |= {name: server.seen.options[name] for name in ("access_key_id", "secret_access_key")}

    def below(url: str) -> int:
        prefix = url.partition(f"{BUCKET}/")[2] + "/"
        return sum(size for key, size in server.keys(BUCKET).items() if key.startswith(prefix))

    return [
        Kind("shardflow s3", lambda number: f"shardflow://s3/{BUCKET}/store-{number}", below, options),
        Kind("dvc-s3", lambda number: f"s3://{BUCKET}/plain-{number}", below, options),
    ]
