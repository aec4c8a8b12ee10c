"""Lets plain `dvc` know `shardflow://`: runs whenever Python starts, so it does next to nothing until DVC is imported.

DVC asks no plugin for its remotes. So a finder waits for the two modules in which they are listed, and for the one that
lists what is pushed and pulled, and adds to each of them after it has been loaded. Only the standard library is used
here; the rest is imported with DVC.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # to import typing takes longer than all that happens here
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

COMPLETED_BY = {
    "dvc_objects.fs": "complete_registry",
    "dvc.config_schema": "complete_schema",
    "dvc_data.index.fetch": "complete_lists",
}
"""Modules of DVC, and what in `shardflow.dvc.registration` completes them."""


class Finder:
    """Finds nothing itself: has these modules completed when other finders find them."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The specification that the other finders give, with a loader that completes the module."""
        if name not in COMPLETED_BY:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                spec.loader = Completing(spec.loader)
                return spec
        return None


class Completing:
    """Another loader, and what follows its work."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the other loader does."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Load the module, then add to it."""
        self._loader.exec_module(module)
        complete(module)


def complete(module: ModuleType) -> None:
    """Add to a module of DVC; if that fails DVC works on without us, but not without a word."""
    from importlib import import_module  # noqa: PLC0415 - now that it is needed

    try:
        getattr(import_module("shardflow.dvc.registration"), COMPLETED_BY[module.__name__])(module)
    except Exception as error:  # noqa: BLE001  # whatever is broken here must not break every dvc command
        print(f"shardflow-dvc: shardflow:// is not available: {error!r}; reinstall shardflow-dvc", file=sys.stderr)


def install() -> None:
    """Wait for DVC; a second call changes nothing."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder())  # type: ignore[arg-type]  # finders are found by their method
