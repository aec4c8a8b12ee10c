"""Where a server finds its policy: the file that the environment names, one beside its database, or the default."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from shardflow.registry.policy.errors import PolicyInvalid, PolicyUnreadable
from shardflow.registry.policy.judging import Policy

POLICY_VARIABLE = "SHARDFLOW_POLICY"
POLICY_FILE = "shardflow-policy.yaml"
MOST_BYTES = 4 << 20

_Stamp: TypeAlias = tuple[int, int, int]  # what changes when somebody writes the file

_read: dict[Path, tuple[_Stamp, Policy]] = {}
_lock = Lock()


def default_text() -> str:
    """The policy that comes with this package, as text."""
    return (files("shardflow.registry.policy") / "default.yaml").read_text(encoding="utf-8")


@cache
def default_policy() -> Policy:
    """What holds where nobody wrote a policy."""
    return Policy.load(default_text(), "the default policy")


def policy_for(database_uri: str, environment: Mapping[str, str] = os.environ) -> Policy:
    """The policy of a registry database, read again when its file changes.

    A file that is there and cannot be used refuses every move: a policy that nobody can read allows nothing.
    """
    path = policy_path(database_uri, environment)
    if path is None:
        return default_policy()
    try:
        found = path.stat()
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        with _lock:
            known = _read.get(path)
        if known is None or known[0] != stamp:
            known = stamp, load_file(path)
            with _lock:
                _read[path] = known
        return known[1]
    except OSError as error:
        return Policy(path.name, broken=f"{path.name} cannot be read: {(error.strerror or 'error').lower()}")
    except (PolicyInvalid, PolicyUnreadable) as error:
        return Policy(path.name, broken=str(error))


def policy_path(database_uri: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file that is the policy of a registry database, if there is one, whether or not it can be read."""
    named = environment.get(POLICY_VARIABLE)
    if named:
        return Path(named)
    directory = _directory_of(database_uri)
    beside = directory / POLICY_FILE if directory else None
    return beside if beside is not None and os.path.lexists(beside) else None


def load_file(path: Path) -> Policy:
    """The policy in a file."""
    if path.stat().st_size > MOST_BYTES:
        raise PolicyUnreadable(f"{path.name} is too large for a policy", remedy="name another file")
    try:
        return Policy.load(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError:
        raise PolicyUnreadable(f"{path.name} is not text in UTF-8", remedy="save it as UTF-8") from None


def _directory_of(database_uri: str) -> Path | None:
    """Where an SQLite database lies: sqlite:///relative, sqlite:////absolute, with or without shardflow- before it."""
    scheme, separator, rest = database_uri.partition(":///")
    if not separator or scheme.removeprefix("shardflow-").partition("+")[0] != "sqlite":
        return None
    path = rest.partition("?")[0]
    return Path(path).parent if path and path != ":memory:" else None
