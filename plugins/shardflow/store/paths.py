"""Paths inside a store: what a logical path may be, and the object key that stands for it.

A key is `tree/` and the path with every byte outside a small safe set written as `%XX`, segment by segment. So any
Unix file name can be stored on any backend, and a segment that starts with `%dir` (never the image of a name, since
`di` are not two hex digits) marks a directory that has nothing in it.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote_to_bytes

from shardflow.store.errors import BadPath
from shardflow.transport.keys import MAX_KEY_BYTES

TREE = "tree/"
EMPTY_DIRECTORY = "%dir"
MAX_PATH_BYTES = MAX_KEY_BYTES - len(TREE) - len("/" + EMPTY_DIRECTORY)
MAX_SEGMENT_BYTES = 240  # file systems end names at 255 bytes, and writers add a suffix while writing

_SAFE = "-_.=@+,:()' !&$;"
_PLAIN = re.compile(r"[0-9A-Za-z_./-]*")  # most names: nothing to escape
_ESCAPE = re.compile(r"%(?![0-9A-F]{2})")


def normal(path: str) -> str:
    """The one spelling of a logical path, `` for the root; refuses what could not be a name or could lead elsewhere."""
    path = path.strip("/")
    if path in {"", "."}:
        return ""
    segments = _one_spelling(path).split("/")
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise BadPath(f"path {path!r} has an empty, '.' or '..' part", remedy="name it without them")
        if "\0" in segment:
            raise BadPath(f"path {path!r} holds a NUL character", remedy="rename the file")
    key = _escape_segments(segments)
    if len(key) > MAX_PATH_BYTES:
        raise BadPath(
            f"path {path[:60]!r}... is {len(key)} bytes long in the store, over the {MAX_PATH_BYTES} that every "
            "backend takes",
            remedy="use a shorter path",
        )
    for segment in key.split("/"):
        if len(segment) > MAX_SEGMENT_BYTES:
            raise BadPath(
                f"name {segment[:40]!r}... is longer than {MAX_SEGMENT_BYTES} bytes in the store",
                remedy="use a shorter name",
            )
    return "/".join(segments)


def key_of(path: str) -> str:
    """The key of a file's manifest."""
    path = normal(path)
    if not path:
        raise BadPath("the root of a store is a directory", remedy="name a file in it")
    return TREE + _escape_segments(path.split("/"))


def prefix_of(path: str) -> str:
    """What every key under a directory starts with."""
    path = normal(path)
    return TREE + _escape_segments(path.split("/")) + "/" if path else TREE


def marker_of(path: str) -> str:
    """The key that says a directory exists although nothing is in it."""
    return prefix_of(path) + EMPTY_DIRECTORY


def path_of(key: str) -> str:
    """The logical path a key stands for; BadPath for a key that no path has (it was not written by a store)."""
    segments = key.removeprefix(TREE).split("/")
    if segments[-1] == EMPTY_DIRECTORY:
        segments = segments[:-1]
    if _PLAIN.fullmatch(key) and segments != [""] and normal(key.removeprefix(TREE)) == "/".join(segments):
        return "/".join(segments)  # most keys: the path, as it is
    if not key.isascii() or any(_ESCAPE.search(segment) for segment in segments):
        raise BadPath(f"key {key!r} is not one a store writes", remedy="remove the foreign object")
    path = "/".join(unquote_to_bytes(segment).decode("utf-8", "surrogateescape") for segment in segments)
    if not path:
        return ""
    if normal(path) != path or (TREE + _escape_segments(path.split("/"))) != TREE + "/".join(segments):
        raise BadPath(f"key {key!r} is not one a store writes", remedy="remove the foreign object")
    return path


def is_marker(key: str) -> bool:
    return key.rsplit("/", 1)[-1] == EMPTY_DIRECTORY


def _one_spelling(path: str) -> str:
    """Characters that stand for single bytes become those that the bytes make together, as the file system has it."""
    try:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadPath(f"path {path!r} holds a character that no file name can", remedy="rename the file") from None


def _escape_segments(segments: list[str]) -> str:
    path = "/".join(segments)
    if _PLAIN.fullmatch(path):
        return path
    return "/".join(quote(segment.encode("utf-8", "surrogateescape"), safe=_SAFE) for segment in segments)
