"""Every stage that any commit's dvc.lock remembers: what it was made from, and what it made.

The blobs are read straight from git, each once, however many commits have it; commits of experiments count too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from shardflow.dvc.projects import Project
from shardflow.errors import ShardflowError

LOCK = "dvc.lock"
_LOCKS = f":(glob)**/{LOCK}"
_ABSENT = "0" * 40


class HistoryUnreadable(ShardflowError):
    """Git does not tell the history of a project."""


@dataclass(frozen=True, slots=True)
class Step:
    """One run of a stage. Hashes are by path, below the root of the project."""

    stage: str
    commit: str | None
    """One that remembers it; none for what is not committed yet."""
    deps: Mapping[str, str] = field(default_factory=dict)
    outs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """prepare at 3f2a1b0c, from data/raw.csv (5d41402a)"""
        where = f" at {self.commit[:12]}" if self.commit else " (not committed)"
        sources = ", ".join(f"{path} ({md5[:8]})" for path, md5 in self.deps.items())
        return f"{self.stage}{where}, from {sources}" if sources else f"{self.stage}{where}"

    def as_dict(self) -> dict[str, Any]:
        return {"stage": self.stage, "commit": self.commit, "deps": dict(self.deps), "outs": dict(self.outs)}


def remembered(project: Project) -> list[Step]:
    """All steps in the history of a project and in its working tree, the latest first."""
    steps = [step for path, text in _working_tree(project) for step in _steps(text, path, None)]
    blobs = _blobs(project)
    for (path, commit), text in zip(blobs.values(), _contents(project, blobs), strict=True):
        steps += _steps(text, path, commit)
    return _distinct(steps)


def upstream(steps: Iterable[Step], hashes: Iterable[str]) -> list[Step]:
    """The steps that made data, those that made what these were made from, and so on; the nearest first."""
    return _followed(steps, hashes, towards="outs")


def downstream(steps: Iterable[Step], hashes: Iterable[str]) -> list[Step]:
    """The steps that used data, those that used what these made, and so on; the nearest first."""
    return _followed(steps, hashes, towards="deps")


def _followed(steps: Iterable[Step], hashes: Iterable[str], *, towards: str) -> list[Step]:
    further = "deps" if towards == "outs" else "outs"
    having: dict[str, list[Step]] = {}
    for step in steps:
        for md5 in getattr(step, towards).values():
            having.setdefault(md5, []).append(step)
    found: dict[int, Step] = {}
    seen, waiting = set(hashes), list(hashes)
    while waiting:
        nearer = {id(step): step for md5 in waiting for step in having.get(md5, []) if id(step) not in found}
        found |= nearer
        waiting = [md5 for step in nearer.values() for md5 in getattr(step, further).values() if md5 not in seen]
        seen.update(waiting)
    return list(found.values())


def _working_tree(project: Project) -> Iterator[tuple[str, bytes]]:
    listed = _git(project, ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", _LOCKS))
    for path in sorted(set(listed.decode(errors="surrogateescape").split("\0")) - {""}):
        with suppress(FileNotFoundError):  # it was removed, and git not told yet
            yield path, (project.root / path).read_bytes()


def _blobs(project: Project) -> dict[str, tuple[str, str]]:
    """Every version of every dvc.lock in the history: the blob, with its path and the last commit that brought it."""
    # Merges are asked for by -m: whoever merges may have run the pipeline again.
    how = ("--all", "-m", "--raw", "--relative", "--no-abbrev", "--no-renames", "--format=commit %H")
    text = _git(project, ("-c", "core.quotePath=false", "log", *how, "--", _LOCKS)).decode(errors="surrogateescape")
    blobs: dict[str, tuple[str, str]] = {}
    commit = ""
    for line in text.splitlines():
        if line.startswith("commit "):
            commit = line.removeprefix("commit ")
        elif line.startswith(":"):
            described, _, path = line.partition("\t")
            blob = described.split()[3]
            if blob != _ABSENT:
                blobs.setdefault(blob, (path, commit))
    return blobs


def _contents(project: Project, blobs: Iterable[str]) -> Iterator[bytes]:
    found = _git(project, ("cat-file", "--batch"), "".join(f"{blob}\n" for blob in blobs).encode())
    start = 0
    while start < len(found):
        end = found.index(b"\n", start)
        size = int(found[start:end].split()[-1])
        yield found[end + 1 : end + 1 + size]
        start = end + size + 2


def _git(project: Project, command: tuple[str, ...], given: bytes = b"") -> bytes:
    line = ["git", "-C", str(project.root), *command]
    try:
        done = subprocess.run(line, input=given, capture_output=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        raise HistoryUnreadable(
            f"git does not tell the history of {project.root}: {error}", remedy="run this in a clone of the project"
        ) from None
    return done.stdout


def _steps(text: bytes, path: str, commit: str | None) -> Iterator[Step]:
    """What a dvc.lock says; one that cannot be read says nothing, as when a merge left its marks in it."""
    try:
        document = yaml.safe_load(text)
        stages = document.get("stages") or {}
        below = PurePosixPath(path).parent
        made = {path: md5 for stage in stages.values() for path, md5 in _hashes(stage, "outs", below).items()}
        for name, stage in stages.items():
            deps, outs = _hashes(stage, "deps", below), _hashes(stage, "outs", below)
            yield Step(name, commit, deps | _around(deps, made), outs, stage.get("params") or {})
    except (yaml.YAMLError, AttributeError, TypeError, KeyError):
        return


def _hashes(stage: Mapping[str, Any], part: str, below: PurePosixPath) -> dict[str, str]:
    found = {}
    for entry in stage.get(part) or []:
        if "md5" in entry:
            found[_joined(below, str(entry["path"]))] = str(entry["md5"])
    return found


def _around(deps: Mapping[str, str], made: Mapping[str, str]) -> dict[str, str]:
    """What other stages made that holds a dependency, as a directory holds a file, or that a dependency holds."""

    def holds(outer: str, inner: str) -> bool:
        return inner.startswith(f"{outer}/")

    return {path: md5 for path, md5 in made.items() if any(holds(path, dep) or holds(dep, path) for dep in deps)}


def _joined(below: PurePosixPath, path: str) -> str:
    parts: list[str] = []
    for part in (*below.parts, *PurePosixPath(path).parts):
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    return str(Path(*parts))


def _distinct(steps: Iterable[Step]) -> list[Step]:
    """A step that several versions of a file remember counts once, with the commit that remembers it."""
    found: dict[tuple[object, ...], Step] = {}
    for step in steps:
        key = (step.stage, tuple(sorted(step.deps.items())), tuple(sorted(step.outs.items())))
        if key not in found or found[key].commit is None:
            found[key] = step
    return list(found.values())
