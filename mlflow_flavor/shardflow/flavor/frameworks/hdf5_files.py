"""HDF5 files that anybody may have written: their values have to be in them, and as many as they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from shardflow.flavor.frameworks.errors import ConversionFailed

_MOST_COMPRESSED = 1100  # HDF5's own filters make nothing so many times smaller


@contextmanager
def own_datasets(source: str | Path) -> Iterator[Mapping[str, Any]]:
    """The datasets of a file by their paths, none of which leads elsewhere."""
    try:
        with h5py.File(source, "r") as file:
            yield _checked(file, source)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, SystemError, MemoryError) as error:
        reason = str(error).partition("\n")[0]
        raise ConversionFailed(f"{source} cannot be read as HDF5: {reason}") from None


def require_own_values(source: str | Path) -> None:
    """Refuse a file before another library reads it, which goes wherever the file leads."""
    with own_datasets(source):
        return


def _checked(file: Any, source: str | Path) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def take(path: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            _require_values(item, path, source)
            found[path] = item

    led_out = file.visititems_links(lambda path, link: path if isinstance(link, h5py.ExternalLink) else None)
    if led_out is not None:
        raise _refused(source, led_out, "is in another file")
    file.visititems(take)
    return found


def _require_values(item: Any, path: str, source: str | Path) -> None:
    if item.external or item.is_virtual:
        raise _refused(source, path, "has its values in another file")
    if item.shape is None:
        raise _refused(source, path, "has no values")
    stored = item.id.get_storage_size()
    if item.nbytes > _MOST_COMPRESSED * stored:
        raise _refused(source, path, f"says it is {item.nbytes:,} bytes and has {stored:,}")


def _refused(source: str | Path, path: str, why: str) -> ConversionFailed:
    return ConversionFailed(f"{source}: {path} {why}", remedy="do not use it, or ask who wrote it for all of it")
