"""Code that was logged beside a model: copied there with it, and imported from there only by those who trust it."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from shardflow.flavor.folders import Folder, LocalFolder, StoreFolder

CODE = "code"


def add_code(folder: Folder) -> None:
    """Make the code of a model importable; from a store it is fetched into a directory that goes with the process."""
    if CODE not in folder.names():
        return
    inside = folder.inside(CODE)
    if isinstance(inside, StoreFolder):
        fetched = Path(tempfile.mkdtemp(prefix="shardflow-code-"))
        inside.store.get(inside.path, fetched)
        sys.path.insert(0, str(fetched))
    elif isinstance(inside, LocalFolder):
        sys.path.insert(0, str(inside.directory))
