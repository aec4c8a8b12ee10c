"""Where a DVC project is, which commit it is at, and where others can get it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

ROOT, STAGE, EXPERIMENT, BASELINE = "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV"
_GIT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Project:
    """A directory with a `.dvc` in it."""

    root: Path

    def path_of(self, path: str | Path) -> str:
        """A path as the project names it: below its root, with slashes."""
        return Path(os.path.relpath(path, self.root)).as_posix()

    def commit(self) -> str | None:
        """The commit that is checked out; none without git, or before the first commit."""
        return self._git("rev-parse", "--verify", "HEAD")

    def has_commit(self, commit: str) -> bool:
        return self._git("cat-file", "-e", f"{commit}^{{commit}}") is not None

    def address(self) -> str:
        """Where others can clone it, without any password; its directory, if it is nowhere else."""
        found = self._git("config", "--get", "remote.origin.url")
        return without_password(found) if found else str(self.repository())

    def below(self) -> str | None:
        """Its path below the root of its git repository; none for the root itself, and without git."""
        found = self._git("rev-parse", "--show-prefix")
        return found.rstrip("/") if found else None

    def repository(self) -> Path:
        """The root of its git repository; its own without git."""
        below = self.below()
        return self.root.resolve().parents[below.count("/")] if below else self.root

    def _git(self, *arguments: str) -> str | None:
        command = ["git", "-C", str(self.root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True, slots=True)
class Stage:
    """The stage or experiment that this process runs in, as DVC tells it."""

    root: Path
    """The project that was started; the stage itself may run in a copy of it."""
    name: str | None
    experiment: str | None
    baseline: str | None


def project_around(path: str | Path | None = None) -> Project | None:
    """The project that a path, or the current directory, lies in."""
    start = Path(os.path.abspath(path or "."))  # noqa: PTH100  # without "..", but with symbolic links as they are
    return next((Project(place) for place in (start, *start.parents) if (place / ".dvc").is_dir()), None)


def current_stage(environment: Mapping[str, str] | None = None) -> Stage | None:
    """What DVC says in the environment of the commands that it runs; none outside of them."""
    found = os.environ if environment is None else environment
    if not found.get(ROOT) or not (found.get(STAGE) or found.get(EXPERIMENT)):
        return None
    return Stage(Path(found[ROOT]), found.get(STAGE), found.get(EXPERIMENT), found.get(BASELINE))


def without_password(url: str) -> str:
    """The URL as it may be shown and stored; `git@host:path` stays as it is."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
