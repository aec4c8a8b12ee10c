"""A disk so small that it gets really full: a file system in memory, mounted where only this test's commands see it.

It needs no rights of its own: a user namespace lends them, where the kernel allows that.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAMESPACES = ("unshare", "--user", "--map-root-user", "--mount")
BEGIN_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A directory that is a disk of its own for the commands that are run here, and empty for all others."""

    path: Path
    holder: int
    """The process whose namespaces it lives in."""

    @property
    def seen(self) -> Path:
        """The same directory as other processes reach it."""
        return type(self.path)(f"/proc/{self.holder}/root{self.path}")

    def run(
        self, *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command that may use the disk."""
        inside = ["nsenter", f"--target={self.holder}", "--user", "--mount", "--preserve-credentials", "--"]
        there = ["sh", "-c", 'cd "$0" && exec "$@"', str(cwd or self.path)]
        return subprocess.run([*inside, *there, *command], env=env, capture_output=True, text=True, check=False)

    def resize(self, size: int) -> None:
        """Make it larger or smaller, down to what it holds."""
        done = self.run("mount", "-o", f"remount,size={size}", str(self.path))
        assert done.returncode == 0, done.stderr


def missing() -> str | None:
    """What there is none of; every Debian has all three."""
    absent = [name for name in ("unshare", "nsenter", "mount") if shutil.which(name) is None]
    return f"not installed ({', '.join(absent)})" if absent else None


def forbidden() -> str | None:
    """Why this kernel lets nobody have such a disk; None if it does."""
    probe = [*NAMESPACES, "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"not allowed ({done.stderr.strip()})" if done.returncode else None


@contextmanager
def running(home: Path) -> Iterator[SmallDisk]:
    """A disk of a megabyte, for as long as the context lasts."""
    disk = home / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={BEGIN_BYTES} tmpfs "$0" && echo ready && exec cat'
    with subprocess.Popen(
        [*NAMESPACES, "sh", "-c", mount, str(disk)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        try:
            yield SmallDisk(disk, holder.pid)
        finally:
            holder.kill()
