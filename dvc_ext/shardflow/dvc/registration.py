"""Adds `shardflow://` to the two lists that DVC keeps: of file systems, and of what a remote's section may hold.

What DVC lists of a push or a pull is completed here as well: see `listed`.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import shardflow_dvc_hook
from shardflow.dvc.leaving import leave_without_looking_back
from shardflow.numpy_at_rest import import_numpy_at_rest

if TYPE_CHECKING:
    from types import ModuleType

SCHEME = "shardflow"
_MISSPELT = re.compile(rf"(^|/){SCHEME}[\w+.-]*:", re.IGNORECASE)
_CLASS = "shardflow.dvc.remote.ShardflowFileSystem"


def register() -> None:
    """Make DVC, imported already or not, know `shardflow://`; what the hook does, for where it does not run."""
    shardflow_dvc_hook.install()
    for name in shardflow_dvc_hook.COMPLETED_BY:
        if name in sys.modules:
            getattr(sys.modules[__name__], shardflow_dvc_hook.COMPLETED_BY[name])(sys.modules[name])
    compiled = getattr(sys.modules.get("dvc.config"), "get_compiled_schema", None)
    if compiled is not None:
        compiled.memory.clear()


def complete_registry(module: ModuleType) -> None:
    """Name the file system's class, for `dvc_objects.fs` to import when a remote needs it."""
    module.known_implementations.setdefault(
        SCHEME,
        {"class": _CLASS, "err": "shardflow is supported, but requires 'shardflow-dvc' to be installed"},
    )


def complete_lists(module: ModuleType) -> None:
    """Let no command take what an interrupted one listed for the whole, in `dvc_data.index.fetch`."""
    from shardflow.dvc.listed import complete  # noqa: PLC0415  # for commands that push or pull

    complete(module)


def _require_another_name(url: object) -> None:
    """Refuse what DVC would take for a directory, though it was meant for a store: `shardflow-s3://bucket`."""
    if isinstance(url, str) and _MISSPELT.search(url):
        from voluptuous import Invalid  # noqa: PLC0415  # only where DVC is at work

        raise Invalid(f"{url} is no URL of a store: write {SCHEME}://<backend>/<path>", path=["url"])


def complete_schema(module: ModuleType) -> None:
    """Let remotes be ours, in `dvc.config_schema`, whatever checks them so far."""
    others = module.SCHEMA["remote"][str]
    if getattr(others, "knows", "") == SCHEME:
        return

    def checked(data: Any) -> Any:
        url = data.get("url") if isinstance(data, dict) else None
        if not isinstance(url, str) or not url.lower().startswith(f"{SCHEME}:"):
            _require_another_name(url)
            return others(data)
        import_numpy_at_rest()
        leave_without_looking_back()
        from shardflow.dvc.options import checked_section  # noqa: PLC0415  # for commands that use such a remote

        return checked_section(data)

    checked.knows = SCHEME  # type: ignore[attr-defined]
    module.SCHEMA["remote"][str] = checked
