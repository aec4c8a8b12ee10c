"""What can go wrong in a store, each as one sentence that names the thing and the remedy."""

from __future__ import annotations

from shardflow.errors import CorruptData, ShardflowError


class StoreMissing(ShardflowError):
    """There is no store at this URL or above it."""


class StoreExists(ShardflowError):
    """A store was to be made where one is."""


class FormatUnknown(ShardflowError):
    """The store, or something in it, was written by a newer Shardflow for an operation this one cannot do."""


class BadPath(ShardflowError):
    """A path that no store may hold, or that would lead outside the target."""


class PathMissing(ShardflowError):
    """Nothing is stored under this path."""


class PathTaken(ShardflowError):
    """Something else is stored under this path, or under a parent of it."""


class ManifestDamaged(CorruptData):
    """A manifest does not parse, contradicts itself, or fails its digest."""


class PackMissing(CorruptData):
    """A manifest needs a pack that is not in the store."""


class PackDamaged(CorruptData):
    """A pack is truncated, altered, or not what its name says."""


class ChunkDamaged(CorruptData):
    """A chunk's bytes are not those its name stands for."""


class SourceChanged(ShardflowError):
    """A file changed while it was being stored."""


class SourceUnusable(ShardflowError):
    """A file or directory to be stored cannot be read, or is of a kind that cannot be stored."""


class TargetUnusable(ShardflowError):
    """The place to write to cannot be written."""


class WishRefused(ShardflowError):
    """A put was asked for things that exclude each other."""
