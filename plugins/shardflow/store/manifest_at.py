"""Reads what describes a store. What arrives damaged is asked for once more: only its way may have altered it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from shardflow.store.errors import ManifestDamaged
from shardflow.store.manifest import Manifest, decode_manifest
from shardflow.transport import Transport

T = TypeVar("T")


def manifest_at(transport: Transport, key: str, name: str) -> Manifest:
    """The manifest under a key; every error names it."""
    return decoded_at(transport, key, name, decode_manifest)


def decoded_at(transport: Transport, key: str, name: str, decode: Callable[[memoryview, str], T]) -> T:
    """What `decode` makes of the object under a key."""
    try:
        return decode(transport.read(key), name)
    except ManifestDamaged:
        return decode(transport.read(key), name)
