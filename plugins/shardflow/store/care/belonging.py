"""Objects beside manifests and packs: tombstones that do not parse, and what does not belong in a store at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shardflow.store.care.packs import PACKS
from shardflow.store.care.problems import REPAIR, Problem
from shardflow.store.config import CONFIG_KEY
from shardflow.store.errors import ManifestDamaged
from shardflow.store.hints import HINTS
from shardflow.store.pack import pack_of_key
from shardflow.store.tombstones import TRASH, read_tombstone
from shardflow.transport import Transport

PARTS = frozenset({"care", "hints", "packs", "trash", "tree"})
_HINT = re.compile(r"hints/[^/]+/[0-9a-f]{2}")


def damaged_tombstones(transport: Transport) -> Iterator[Problem]:
    """A tombstone that does not parse keeps every writer from writing, because nobody knows what it protects."""
    for info in transport.list(TRASH):
        try:
            read_tombstone(transport, info)
        except ManifestDamaged as error:
            yield Problem("tombstone-damaged", error.message, REPAIR, key=info.key)


def foreign_objects(transport: Transport) -> Iterator[Problem]:
    """What no Shardflow writes. Below `tree/` the check of the manifests finds it; below `care/` anything may be."""
    directories, files = transport.list_names("")
    for name in [f"{name}/" for name in directories if name not in PARTS] + [n for n in files if n != CONFIG_KEY]:
        yield _foreign(name)
    for info in transport.list(PACKS):
        if pack_of_key(info.key) is None:
            yield _foreign(info.key)
    for info in transport.list(HINTS):
        if not _HINT.fullmatch(info.key):
            yield _foreign(info.key)


def _foreign(key: str) -> Problem:
    return Problem("foreign-object", f"{key} is nothing a store writes", "move it elsewhere", key=key)
