"""Writes a working pipeline into a DVC project that exists, and never over a file that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from shardflow.dvc.projects import project_around
from shardflow.errors import ShardflowError

_LEFT_OUT = frozenset({"README.md", "__pycache__"})


class NotAProject(ShardflowError):
    """A directory in which DVC has not been set up."""


class InTheWay(ShardflowError):
    """Files that would have to be overwritten."""


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What was written, and where."""

    directory: Path
    files: tuple[str, ...]


def scaffold(directory: str | Path) -> Scaffold:
    """Write the pipeline into a directory of a DVC project: all of it, or nothing if one of its files is there."""
    target = Path(directory).absolute()
    if project_around(target) is None:
        raise NotAProject(f"{target} is in no DVC project", remedy="run 'git init' and 'dvc init' there first")
    wanted = dict(_template(files("shardflow.dvc") / "template", ""))
    taken = [name for name in wanted if (target / name).exists() or (target / name).is_symlink()]
    if taken:
        raise InTheWay(
            f"{', '.join(taken)} in {target} would have to be overwritten",
            remedy="nothing was written: name another directory, such as 'shardflow dvc init training'",
        )
    written: list[Path] = []
    try:
        for name, text in wanted.items():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as opened:
                written.append(file)
                opened.write(text)
    except OSError as error:
        for file in written:
            file.unlink(missing_ok=True)
        raise InTheWay(f"{error.filename or target} cannot be written: {error.strerror}") from None
    return Scaffold(target, tuple(wanted))


def _template(place: Traversable, prefix: str) -> Iterator[tuple[str, str]]:
    for entry in sorted(place.iterdir(), key=lambda entry: entry.name):
        if entry.name in _LEFT_OUT:
            continue
        if entry.is_dir():
            yield from _template(entry, f"{prefix}{entry.name}/")
        else:
            yield f"{prefix}{entry.name}", entry.read_text(encoding="utf-8")
