"""What DVC knows of a path: the commit that has it, its md5, and how to get those very bytes again."""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from glob import has_magic
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.fs import localfs
from dvc.repo import Repo
from dvc.repo.open_repo import erepo_factory
from dvc_data.hashfile.build import build
from dvc_data.hashfile.db import HashFileDB
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree
from dvc_data.index import DataIndexError
from dvc_objects.errors import ObjectFormatError
from dvc_objects.fs.memory import MemoryFileSystem
from scmrepo.exceptions import SCMError

from shardflow.dvc.projects import Project, project_around, without_password
from shardflow.errors import CorruptData, ShardflowError
from shardflow.store.parallel import in_parallel

DIRECTORY = ".dir"
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_UNREADABLE = (OSError, DvcException, DataIndexError)


class DataUntracked(ShardflowError):
    """DVC knows nothing of a path."""


class DataChanged(ShardflowError):
    """What lies at a path is not what DVC has recorded for it."""


class DataUnavailable(ShardflowError):
    """Recorded data that can be found nowhere any more."""


class DataInTheWay(ShardflowError):
    """Files that would be taken for a part of the data that is to come there."""


class DataAltered(CorruptData):
    """What came back is not what was recorded."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A version of a file or directory that DVC tracks."""

    repo: str
    path: str
    """Below the root of the project."""
    rev: str | None
    """The commit; none without git."""
    md5: str
    """With `.dir` at the end for a directory, as DVC writes it."""
    committed: bool
    """False if the version is newer than the commit, as in a stage that has just made it."""
    size: int | None = None
    files: int | None = None
    project: str | None = None
    """Where the project is in its repository; none at the root, and without git."""

    @property
    def path_in_repo(self) -> str:
        return _joined(self.project, self.path)

    @property
    def is_directory(self) -> bool:
        return self.md5.endswith(DIRECTORY)

    def as_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def tracked_from(document: Mapping[str, Any]) -> Tracked:
    """What was recorded, from its JSON; fields that a later version has added are left alone."""
    known = {field.name: document[field.name] for field in fields(Tracked) if field.name in document}
    try:
        found = Tracked(**{"rev": None, **known})
    except TypeError as error:
        raise DataUnavailable(f"what was recorded of the data is incomplete: {error}") from None
    inside = _stays_inside(found.path) and _stays_inside(found.path_in_repo)
    if not (_MD5.fullmatch(found.md5) and inside and _is_plain(found.repo)):
        raise DataUnavailable(
            f"{found.path!r} of {found.repo!r} with md5 {found.md5!r} cannot be data of DVC",
            remedy="do not trust where this comes from",
        )
    return found


def tracked(path: str | Path, *, repo: str | None = None, rev: str | None = None) -> Tracked:
    """What DVC has recorded for a path: of this project as it is now, or of any project at a revision.

    A path of another repository begins at the root of that, also where the project is further below.
    """
    if repo is None:
        project = project_around(Path(path).parent)
        if project is None:
            raise DataUntracked(f"{path} is in no DVC project", remedy="run 'dvc init', or name the project")
        inside = project.path_of(path)
        return _now(project, inside) if rev is None else _at(str(project.root), inside, rev, project.address())
    return _at(repo, posixpath.normpath(f"/{path}").lstrip("/"), rev)


def fetched(data: Tracked, target: Path) -> Path:
    """Those very bytes, at `target`; compared with their md5 before anything there is touched."""
    here = project_around()
    source = data.repo
    if here and (data.rev is None or here.has_commit(data.rev)):
        source = str(here.repository() if data.rev or data.project else here.root)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".shardflow-") as directory:
        fresh = Path(directory) / target.name
        if data.committed:
            _get(source, data, fresh)
        else:
            _copy(source, data, fresh)
        found = _md5_of(fresh)
        if found != data.md5:
            raise DataAltered(
                f"{data.path} of {source} has md5 {found}, but {data.md5} was recorded",
                remedy="fetch it again with 'dvc fetch --force', from a remote that is not damaged",
            )
        _put_in_place(fresh, target)
    return target


def _put_in_place(fresh: Path, target: Path) -> None:
    """Over an earlier copy too, unless that has files which this version has not: they would pass for its own."""
    if target.exists() and target.is_dir() != fresh.is_dir():
        raise DataInTheWay(
            f"{target} is a {'directory' if target.is_dir() else 'file'}, which this version is not",
            remedy="remove it, or name another directory",
        )
    if not fresh.is_dir():
        fresh.replace(target)
        return
    wanted = _files_below(fresh)
    others = sorted(_files_below(target) - wanted)
    if others:
        raise DataInTheWay(
            f"{target} holds {others[0]}, which this version does not have",
            remedy="remove it, or name another directory",
        )
    target.mkdir(exist_ok=True)
    for name in wanted:
        (fresh / name).replace(_placed(target, name))


def _files_below(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if not path.is_dir()}


def _now(project: Project, path: str) -> Tracked:
    with _file_system(str(project.root)) as files:
        md5, size, count = _recorded(files, path, str(project.root))
        actual = _md5_of(project.root / path, files.repo)
    if actual != md5:
        raise DataChanged(
            f"{path} is not what DVC has recorded: its md5 is {actual}, not {md5}", remedy=f"run 'dvc commit {path}'"
        )
    rev = project.commit()
    committed = _has(project, path, rev, md5)
    return Tracked(project.address(), path, rev, md5, committed, size, count, project.below())


def _has(project: Project, path: str, rev: str | None, md5: str) -> bool:
    """Whether the commit names this version of the path."""
    if rev is None:
        return False
    try:
        return _at(str(project.root), path, rev).md5 == md5
    except (DataUntracked, DataUnavailable):  # what the commit has cannot be told: this version is found by its md5
        return False


def _at(repo: str, path: str, rev: str | None, address: str | None = None) -> Tracked:
    if Path(repo, ".dvc").is_dir():
        # At a revision, DVC opens the whole repository even where a project further below is asked for.
        named = Project(Path(repo))
        repo, path = str(named.repository()), _joined(named.below(), path)
    with _file_system(repo, rev) as files:
        md5, size, count = _recorded(files, path, f"{repo}@{rev}" if rev else repo)
        commit = files.repo.get_rev()
        project = _project_in(files, path)
    inside = PurePosixPath(path).relative_to(project or ".").as_posix()
    return Tracked(address or without_password(repo), inside, commit, md5, True, size, count, project)


def _project_in(files: DVCFileSystem, path: str) -> str | None:
    """Where the project that a path belongs to is in the repository."""
    found = posixpath.relpath(_repo_of(files, path).root_dir, files.repo.root_dir)
    return None if found == "." else found


def _repo_of(files: DVCFileSystem, path: str) -> Repo:
    return files.info(f"/{path}")["repo"]


def _recorded(files: DVCFileSystem, path: str, where: str) -> tuple[str, int | None, int | None]:
    try:
        found = files.info(f"/{path}").get("dvc_info") or {}
    except FileNotFoundError:
        found = {}
    except DataIndexError as error:
        raise DataUnavailable(
            f"{path} in {where} cannot be looked up: {error}", remedy="push it where it was made, with 'dvc push'"
        ) from None
    if "md5" not in found:
        raise DataUntracked(f"DVC does not track {path} in {where}", remedy=f"run 'dvc add {path}', or check the path")
    meta = found["entry"].meta
    return found["md5"], found.get("size"), meta.nfiles if meta else None


@contextmanager
def _file_system(repo: str, rev: str | None = None) -> Iterator[DVCFileSystem]:
    """A repository with all projects in it."""
    # The address of a remote may begin at the directory of its project, which is nowhere at a revision.
    factory = erepo_factory(repo, "/", {}) if rev and Path(repo, ".git").exists() else None
    try:
        files = DVCFileSystem(repo, rev=rev, subrepos=True, repo_factory=factory)
        files.repo  # noqa: B018  # it is opened only now
    except (DvcException, SCMError) as error:
        where = f"{repo} at {rev}" if rev else repo
        raise DataUnavailable(
            f"{where} cannot be opened: {error}", remedy="check the repository and the revision"
        ) from None
    with closing(files):
        yield files


def _get(source: str, data: Tracked, target: Path) -> None:
    get = _get_directory if data.is_directory else _get_file
    with _file_system(source, data.rev) as files:
        try:
            get(files, f"/{data.path_in_repo}", target)
        except _UNREADABLE as error:
            raise DataUnavailable(
                f"{data.path} of {source} at {data.rev} cannot be read: {error}",
                remedy="push it where it was made, with 'dvc push'",
            ) from None


def _get_directory(files: DVCFileSystem, path: str, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    if not has_magic(path):
        files.get(path, str(target.parent), recursive=True)  # under its own name, which the target has too
        return
    # DVC's own way is quicker, but takes a name such as `data[1]` for a pattern.
    for _ in in_parallel(lambda file: _get_file(files, file, _placed(target, file[len(path) + 1 :])), files.find(path)):
        pass


def _get_file(files: DVCFileSystem, path: str, target: Path) -> None:
    files.get_file(path, str(target))


def _copy(source: str, data: Tracked, target: Path) -> None:
    """Out of the cache, filled from the remote if need be: no commit names this version, but its md5 does."""
    with _file_system(source) as files:
        try:
            repo = _repo_of(files, data.project) if data.project else files.repo
            cache = repo.cache.local
            _fill(repo, [data.md5])
            if not data.is_directory:
                shutil.copyfile(cache.oid_to_path(data.md5), target)
                return
            listed = list(Tree.load(cache, HashInfo("md5", data.md5)))
            _fill(repo, [one.value for _, _, one in listed])
            for key, _, one in listed:
                shutil.copyfile(cache.oid_to_path(one.value), _placed(target, "/".join(key)))
        except (*_UNREADABLE, ObjectFormatError) as error:
            raise DataUnavailable(
                f"no commit has this version of {data.path}, and its bytes ({data.md5}) are not in {source}: {error}",
                remedy="commit and push it where it was made",
            ) from None


def _fill(repo: Repo, hashes: list[str]) -> None:
    cache = repo.cache.local
    missing = [HashInfo("md5", one) for one in hashes if not cache.exists(cache.oid_to_path(one))]
    if missing:
        repo.cloud.pull(missing)


def _placed(directory: Path, path: str) -> Path:
    if not _stays_inside(path):
        raise DataAltered(f"what was recorded lists {path!r}, which is outside of it")
    file = directory / path
    file.parent.mkdir(parents=True, exist_ok=True)
    return file


def _md5_of(path: Path, repo: Repo | None = None) -> str:
    """The md5 of what lies at a path, as DVC makes it; quick for what its state database knows."""

    cache = repo.cache.local if repo else HashFileDB(MemoryFileSystem(), tempfile.gettempdir())  # type: ignore[no-untyped-call]
    try:
        _, _, found = build(cache, str(path), localfs, "md5", dry_run=True)
    except FileNotFoundError:
        raise DataUnavailable(f"{path} is not there", remedy="get it with 'dvc pull'") from None
    return str(found.hash_info.value)


def _joined(project: str | None, path: str) -> str:
    return f"{project}/{path}" if project else path


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and ".." not in parts and not path.startswith("/")


def _is_plain(repo: str) -> bool:
    """Git runs programs for addresses such as `ext::command`, and takes a leading dash for an option."""
    return "::" not in repo and not repo.startswith("-")
