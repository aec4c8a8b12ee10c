"""Examines this machine: what is installed, and whether Shardflow has the room it wants."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import shardflow
from shardflow.codec.kernels import best_kernels
from shardflow.local_state import cache_directory, state_directory
from shardflow.loops import keeping
from shardflow.store.cache import ChunkCache
from shardflow.store.care.finding import Finding, looked_at, size_text
from shardflow.store.store import shared_budget
from shardflow.transport import durable, parallel_parts

DISTRIBUTIONS = ("shardflow", "shardflow-dvc")
LIBRARIES = ("obstore", "zstandard", "blake3", "numpy", "numba", "llvmlite", "msgspec")
OPTIONAL = frozenset({"numba", "llvmlite"})
FREE_ENOUGH = 1 << 30


def machine_findings() -> Iterator[Finding]:
    yield looked_at("python", _python)
    yield looked_at("shardflow", _version)
    yield looked_at("libraries", _libraries)
    yield looked_at("kernels", _kernels)
    yield from _plugins()
    yield looked_at("state", lambda: _directory("state", state_directory()))
    yield looked_at("cache", _cache)
    yield looked_at("memory", _memory)
    yield looked_at("transfers", _transfers)


def _python() -> Finding:
    what = f"{platform.python_implementation()} {platform.python_version()} on {platform.platform()}"
    return Finding("python", sys.version_info >= (3, 11), what, "use Python 3.11 or newer")


def _version() -> Finding:
    installed = _installed("shardflow")
    what = f"{shardflow.__version__}"
    if installed not in (None, shardflow.__version__):
        remedy = "install it again: what runs is not what was installed"
        return Finding("shardflow", False, f"{what}, and the installed distribution says {installed}", remedy)
    return Finding("shardflow", True, what)


def _libraries() -> Finding:
    versions = {name: _installed(name) for name in LIBRARIES}
    missing = [name for name, version in versions.items() if version is None and name not in OPTIONAL]
    what = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    return Finding("libraries", not missing, what, f"install {', '.join(missing)}" if missing else "")


def _kernels() -> Finding:
    kind = type(best_kernels()).__name__
    if kind == "ArrayKernels":
        return Finding("kernels", None, "plain numpy, several times slower", "install numba")
    held, place = keeping.held(), keeping.directory()
    if not held:
        remedy = f"make it a directory of yours alone, or set {keeping.VARIABLE} to one"
        return Finding("kernels", None, f"compiled by numba in each process: {place} cannot keep them", remedy)
    return Finding("kernels", True, f"compiled by numba, and kept in {place}")


def _plugins() -> Iterator[Finding]:
    """What other programs find Shardflow by; each has to import."""
    for name in DISTRIBUTIONS:
        try:
            entries = metadata.distribution(name).entry_points
        except metadata.PackageNotFoundError:
            continue
        for entry in entries:
            if entry.group != "console_scripts":
                yield looked_at(f"{entry.group} {entry.name}", lambda entry=entry: _loaded(entry))  # type: ignore[misc]


def _loaded(entry: metadata.EntryPoint) -> Finding:
    try:
        entry.load()
    except ModuleNotFoundError as error:
        # A plugin for a program that is not here is nothing bad.
        if error.name is None or error.name.partition(".")[0] != entry.group.partition(".")[0]:
            raise
        return Finding(f"{entry.group} {entry.name}", None, f"{error.name} is not installed")
    return Finding(f"{entry.group} {entry.name}", True, f"{entry.value} loads")


def _cache() -> Finding:
    found = _directory("cache", cache_directory())
    limit = ChunkCache().limit
    return Finding("cache", found.ok, f"{found.what}, limit {size_text(limit)}", found.remedy)


def _transfers() -> Finding:
    forced = "forced to the disk" if durable() else "not forced to the disk (SHARDFLOW_FSYNC=0)"
    return Finding("transfers", True, f"{parallel_parts()} parts of an object at a time, files {forced}")


def _directory(name: str, path: Path) -> Finding:
    """A directory of ours: whether it can be written, what it holds, what is free."""
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    held = sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else 0
    what = f"{path} holds {size_text(held)}, {size_text(free)} are free"
    if not os.access(existing, os.W_OK) or not existing.is_dir():
        variable = f"SHARDFLOW_{name.upper()}"
        return Finding(name, False, f"{what}, and it cannot be written", f"set {variable} to a directory that can")
    if free < FREE_ENOUGH:
        return Finding(name, None, what, "free some space there")
    return Finding(name, True, what)


def _memory() -> Finding:
    budget = shared_budget().total
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    what = f"{size_text(budget)} for work in flight, of {size_text(physical)} in this machine"
    ok = budget <= physical // 2
    return Finding("memory", ok, what, "" if ok else "lower SHARDFLOW_MEMORY_BYTES")


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
