"""Semantic versions of registered models: how they are written, ordered, and looked up through MLflow's aliases.

A client gives a version its semantic version with the tag `shardflow.version` when it registers it. MLflow has no
dots in aliases, so `1.4.2` is the alias `v1-4-2`, and the pre-release `1.4.2-rc.1` is `v1-4-2-rc_1`: an underscore is
none of the characters that semantic versions have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from semver import Version

from shardflow.errors import ShardflowError
from shardflow.registry.facts import Semantic

VERSION_TAG = "shardflow.version"

_ALIAS = re.compile(r"v(\d+)-(\d+)-(\d+)(?:-([0-9A-Za-z_-]+))?", re.ASCII)
_LARGEST = 2**31 - 1  # what a column of integers holds
_LONGEST_PRE = 96


class VersionInvalid(ShardflowError):
    """A text that is no semantic version, or one that a model cannot have."""


class Change(StrEnum):
    """How much a model differs from the version before it; the word for it in a semantic version."""

    PATCH = "patch"
    MINOR = "minor"
    MAJOR = "major"


FIRST = Semantic("1.0.0", 1, 0, 0)


def parse(text: str) -> Semantic:
    """A semantic version as people write it; a leading v is forgiven."""
    try:
        found = Version.parse(text.strip().removeprefix("v"))
    except ValueError:
        raise VersionInvalid(
            f"{text!r} is no semantic version", remedy="write one such as 1.4.0 or 2.0.0-rc.1"
        ) from None
    if found.build:
        raise VersionInvalid(
            f"{text!r} has a build, which does not tell versions apart", remedy=f"leave out '+{found.build}'"
        )
    if max(found.major, found.minor, found.patch) > _LARGEST or len(found.prerelease or "") > _LONGEST_PRE:
        raise VersionInvalid(f"{text[:40]!r} is longer than a registry keeps", remedy="write a shorter one")
    return _semantic(found)


def order(version: Semantic) -> Version:
    """What to sort semantic versions by: a pre-release comes before its release, rc.2 before rc.10."""
    return Version(version.major, version.minor, version.patch, version.pre or None)


def latest(versions: Iterable[Semantic]) -> Semantic | None:
    """The greatest of them."""
    return max(versions, key=order, default=None)


def following(version: Semantic, change: Change) -> Semantic:
    """The version after a change of this kind; after a pre-release, its release may be enough."""
    return _semantic(order(version).next_version(change.value))


def alias_of(version: Semantic) -> str:
    """The alias that MLflow accepts for a semantic version."""
    core = f"v{version.major}-{version.minor}-{version.patch}"
    return f"{core}-{version.pre.replace('.', '_')}" if version.pre else core


def from_alias(alias: str) -> Semantic | None:
    """The semantic version that an alias stands for; None if it is an alias of another kind."""
    found = _ALIAS.fullmatch(alias)
    if found is None:
        return None
    text = ".".join(found.group(1, 2, 3)) + (f"-{found[4].replace('_', '.')}" if found[4] else "")
    try:
        return parse(text)
    except VersionInvalid:
        return None


def _semantic(found: Version) -> Semantic:
    return Semantic(str(found), found.major, found.minor, found.patch, found.prerelease or "")
