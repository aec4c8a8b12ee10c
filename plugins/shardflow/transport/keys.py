"""The rules for names of objects, checked before any backend sees them."""

from __future__ import annotations

# Temporary files and the lock of the `file` backend live here, beside the objects; no object may.
RESERVED = ".incoming"

MAX_KEY_BYTES = 900  # S3, GCS and Azure all stop at 1024, and the store's own prefix counts


def check_key(key: str) -> str:
    """The key itself if every backend can hold it; if not a ValueError, because then the caller has a bug."""
    segments = key.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise ValueError(f"object key {key!r} has an empty, '.' or '..' segment")
    if segments[0] == RESERVED:
        raise ValueError(f"object key {key!r} lies in {RESERVED}/, which is kept for unfinished files")
    if not key.isascii() or not key.isprintable():
        raise ValueError(f"object key {key!r} has characters outside printable ASCII")
    if len(key) > MAX_KEY_BYTES:
        raise ValueError(f"object key {key[:60]!r}... is longer than {MAX_KEY_BYTES} bytes")
    return key


def check_prefix(prefix: str) -> str:
    """A prefix is whole segments, or empty for everything; one slash at its end is taken off."""
    prefix = prefix.removesuffix("/")
    return check_key(prefix) if prefix else ""
