"""Listing of a directory tree in the order of its keys, as object storage would list them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from shardflow.transport.keys import RESERVED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def walk(root: Path, prefix: str, after: str) -> Iterator[tuple[str, os.stat_result]]:
    """Keys after `after` below `prefix`, and the state of their files."""
    base = f"{prefix}/" if prefix else ""
    for name, is_directory in _entries(root / prefix, at_root=not prefix):
        key = base + name
        if is_directory:
            # '0' is the character after '/', so everything below this directory sorts before it.
            if f"{key}0" > after:
                yield from walk(root, key, after)
        elif key > after:
            with suppress(FileNotFoundError):  # deleted while we walk
                status = os.stat(f"{root}/{key}")  # to put a Path together takes as long
                if stat.S_ISREG(status.st_mode):
                    yield key, status


def names_below(root: Path, prefix: str) -> tuple[list[str], list[str]]:
    """Names of the directories that hold a file at any depth, and of the files, right below `prefix`."""
    directories: list[str] = []
    files: list[str] = []
    for name, is_directory in _entries(root / prefix, at_root=not prefix):
        if not is_directory:
            files.append(name)
        elif _holds_a_file(root / prefix / name):
            directories.append(name)
    return sorted(directories), sorted(files)


def _entries(directory: Path, *, at_root: bool) -> list[tuple[str, bool]]:
    """Names of files and directories in a directory with whether each is one itself, in the order of whole keys."""
    try:
        with os.scandir(directory) as scan:
            entries = [
                (entry.name, is_directory)
                for entry in scan
                if not (at_root and entry.name == RESERVED) and ((is_directory := entry.is_dir()) or entry.is_file())
            ]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(entries, key=lambda entry: f"{entry[0]}/" if entry[1] else entry[0])


def _holds_a_file(directory: Path) -> bool:
    return any(
        not is_directory or _holds_a_file(directory / name) for name, is_directory in _entries(directory, at_root=False)
    )
