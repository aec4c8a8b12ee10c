"""Code that was logged beside a model: copied there with it, and imported from there only by those who trust it."""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

from shardflow.flavor.folders import Folder, LocalFolder, StoreFolder

CODE = "code"
_fetched: dict[str, TemporaryDirectory[str]] = {}  # by the name of the model's folder; deleted when the process ends


def add_code(folder: Folder) -> None:
    """Make the code of a model importable; from a store it is fetched into a directory that goes with the process."""
    if CODE not in folder.names():
        return
    inside = folder.inside(CODE)
    if isinstance(inside, StoreFolder):
        if inside.name not in _fetched:
            _fetched[inside.name] = TemporaryDirectory(prefix="shardflow-code-")
        directory = _fetched[inside.name].name
        inside.store.get(inside.path, directory)
        _look_there_first(directory)
    elif isinstance(inside, LocalFolder):
        _look_there_first(str(inside.directory))


def _look_there_first(directory: str) -> None:
    if directory in sys.path:
        sys.path.remove(directory)
    sys.path.insert(0, directory)
