"""Real `dvc` commands in projects of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dvc_support.warm import Command, warm

DVC = (sys.executable, "-m", "dvc")
CONFIG = """\
[core]
    analytics = false
    check_update = false
    site_cache_dir = {site}
    remote = store
['remote "store"']
    url = {url}
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a command line."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        return self.out + self.err


@dataclass(frozen=True, slots=True)
class Project:
    """A Git repository with DVC in it, whose default remote is a place in a store."""

    root: Path

    def run(self, *command: str) -> Done:
        """A program in the project."""
        done = subprocess.run(
            command, cwd=self.root, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def dvc(self, *arguments: str, largest_file: int | None = None) -> Done:
        """A command that may fail, in a process of its own."""
        out, err = (self.root.with_name(f"{self.root.name}.{name}") for name in ("out", "err"))
        code = warm().run(Command(list(arguments), str(self.root), dict(os.environ), str(out), str(err), largest_file))
        return Done(code, out.read_text(), err.read_text())

    def must(self, *arguments: str) -> str:
        """A command that has to succeed; all that it said."""
        done = self.dvc(*arguments)
        assert done.code == 0, done.all
        return done.all

    def git(self, *arguments: str) -> str:
        done = self.run("git", *arguments)
        assert done.code == 0, done.all
        return done.out

    def commit(self) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "a state")

    def clone(self, root: Path) -> Project:
        """Another user's checkout, with an empty cache."""
        self.git("clone", "-q", ".", str(root))
        clone = Project(root)
        _name_user(clone)
        local = self.root / ".dvc" / "config.local"
        if local.exists():
            (root / ".dvc" / "config.local").write_text(local.read_text())
        return clone


def project(root: Path, url: str, options: Mapping[str, str] | None = None) -> Project:
    """A new project; the remote's options go where DVC wants secrets, beside the configuration that is shared."""
    root.mkdir(parents=True)
    made = Project(root)
    made.git("init", "-q")
    _name_user(made)
    (root / ".dvc").mkdir()
    (root / ".dvc" / ".gitignore").write_text("/config.local\n/tmp\n/cache\n")
    (root / ".dvc" / "config").write_text(CONFIG.format(url=url, site=root.parent / "site"))
    if options:
        lines = "".join(f"    {name} = {value}\n" for name, value in options.items())
        (root / ".dvc" / "config.local").write_text(f"['remote \"store\"']\n{lines}")
    made.commit()
    return made


def remote_options(options: Mapping[str, str]) -> dict[str, str]:
    """A service's options under the names that a DVC remote has for them."""
    return {"endpointurl" if name == "endpoint" else name: value for name, value in options.items()}


def _name_user(made: Project) -> None:
    made.git("config", "user.email", "someone@example.org")
    made.git("config", "user.name", "Someone")
