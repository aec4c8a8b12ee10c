"""What a figure was measured on: enough to judge it by, nothing that names the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

LIBRARIES = ("shardflow", "obstore", "zstandard", "blake3", "numpy", "numba", "boto3", "s3transfer")


def described() -> dict[str, str | int | float]:
    """Processor, memory, system and the versions of all that takes part."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    about: dict[str, str | int | float] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / (1 << 30), 1),
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "python": platform.python_version(),
    }
    return about | versions(LIBRARIES)


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """Of the libraries among these that are installed."""
    return {library: version for library in libraries if (version := _version(library))}


def server_version(kind: str) -> dict[str, str]:
    """Which Ceph it was, if it was Ceph."""
    return {"ceph": _ceph_version()} if kind == "ceph" else {}


def _ceph_version() -> str:
    program = shutil.which("radosgw")
    if program is None:
        return ""
    answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return answer[2] if len(answer) > 2 else ""


def line(about: dict[str, str | int | float]) -> str:
    """The description as one line of text."""
    parts = [f"{about['cores']} cores ({about['processor']})", f"{about['memory_gib']} GiB", str(about["system"])]
    parts.append(f"Python {about['python']}")
    parts += [f"{name} {about[name]}" for name in about if name in {*LIBRARIES, "ceph"}]
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""
