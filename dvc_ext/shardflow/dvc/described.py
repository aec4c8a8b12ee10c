"""What fsspec and DVC want to know of a stored file or directory, read from its manifest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from shardflow.store.errors import PathMissing, PathTaken
from shardflow.store.manifest import Manifest
from shardflow.store.paths import is_marker, path_of, prefix_of
from shardflow.store.store import Store

Info = dict[str, Any]

_OBJECT = re.compile(r"(?:^|/)files/md5/([0-9a-f]{2})/([0-9a-f]{30})")
_NAMED_BY_HASH = re.compile(r"(?:^|/)[0-9a-f]{2}/[0-9a-f]{30}(?:\.dir(?:\.unpacked)?)?$")
_PLAIN_KEY = re.compile(r"tree/[0-9A-Za-z_/-]+(?:\.dir)?")


def info_of_file(name: str, manifest: Manifest) -> Info:
    """A file as it is stored. Its ETag is its content, so DVC knows it again wherever it lies."""
    info: Info = {
        "name": name,
        "type": "file",
        "size": manifest.size,
        "created": manifest.created,
        "blake3": manifest.digest.hex(),
        "etag": manifest.digest.hex(),
    }
    md5 = md5_of(name, manifest)
    return info | {"md5": md5} if md5 else info


def info_of_directory(name: str) -> Info:
    return {"name": name, "type": "directory", "size": 0}


def md5_of(name: str, manifest: Manifest) -> str:
    """The MD5 of a file, where that is known: DVC's objects are named by it."""
    named = _OBJECT.search(name)
    if named and named.end() == len(name):
        return named[1] + named[2]
    return manifest.md5.hex() if manifest.md5 else ""


def is_named_by_hash(path: str) -> bool:
    """Whether a path could be one of DVC's objects, those of DVC 2 included, which lie right below the remote."""
    return _NAMED_BY_HASH.search(path) is not None


def is_object(path: str) -> bool:
    """Whether a path is one of DVC's objects, a file or a listing of a directory, whose name is its content."""
    named = _OBJECT.search(path)
    return named is not None and path[named.end() :] in ("", ".dir")


def is_listing(path: str) -> bool:
    """Whether a path is one of DVC's listings of directories."""
    return path.endswith(".dir") and is_named_by_hash(path)


def info(store: Store, inside: str, name: str) -> Info:
    """A file or directory; PathMissing if there is neither."""
    if not inside:
        return info_of_directory(name)
    try:
        return info_of_file(name, store.manifest(inside))
    except PathTaken:
        return info_of_directory(name)


def names_below(store: Store, inside: str) -> tuple[list[str], list[str]]:
    """Directories and files right below a directory, as paths in the store; PathMissing if there is none."""
    prefix = prefix_of(inside)
    directories, files = store.transport.list_names(prefix)
    if inside and not directories and not files:
        raise PathMissing(f"{store.url.joined(inside)} does not exist", remedy="list what does with 'shardflow ls'")
    empty = [path_of(prefix + name) for name in files if is_marker(prefix + name)]
    inner = [path_of(prefix + name) for name in directories]
    return (
        sorted({*inner, *(path for path in empty if path != inside)}),
        [path_of(prefix + name) for name in files if not is_marker(prefix + name)],
    )


def files_below(store: Store, inside: str, beginning: str = "") -> Iterator[str]:
    """Every file at any depth below a directory whose path there begins so, as paths in the store."""
    prefix = prefix_of(inside)
    for key in (info.key for info in store.transport.list(prefix)):
        if not is_marker(key):
            path = path_of_key(key)
            if not beginning or path[len(inside) :].lstrip("/").startswith(beginning):
                yield path


def path_of_key(key: str) -> str:
    """`path_of`, quick for the names that DVC gives: a remote has a hundred thousand of them."""
    if _PLAIN_KEY.fullmatch(key) and "//" not in key:
        return key[len("tree/") :]
    return path_of(key)
