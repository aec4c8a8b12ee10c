"""Takes models that lie elsewhere into a store, oldest first, so that each is stored by how it differs from the last.

The old copies are left alone. What is done is not done again by a later run, and everything is read back and compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from shardflow.errors import ShardflowError
from shardflow.flavor.moving.claims import claimed
from shardflow.flavor.moving.copying import CopyDiffers, MigrationProgress, copy_version, stored_files
from shardflow.flavor.moving.downloads import scratch_directory
from shardflow.flavor.moving.originals import InStore, OnDisk, below
from shardflow.flavor.moving.records import read_record, records_of
from shardflow.flavor.moving.versions import NothingToMove, Order, Version, versions_in
from shardflow.store.errors import BadPath, PathMissing, PathTaken, SourceChanged, SourceUnusable
from shardflow.store.store import Store
from shardflow.transport import Cancellation

State = Literal["moved", "was there", "in a store", "failed", "to be moved"]

# What goes wrong with one version leaves the others to be moved. Whatever else goes wrong ends the run.
_OF_ONE_VERSION = (SourceUnusable, SourceChanged, BadPath, PathTaken, PathMissing, CopyDiffers)


class MigrationRefused(ShardflowError):
    """A migration that was asked for in a way that makes no sense."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One version, and what became of it."""

    name: str
    source: str
    url: str
    state: State
    files: int = 0
    bytes: int = 0
    stored: int = 0  # bytes in the store that no earlier version of this migration has
    sent: int = 0  # bytes over the wire, by this run
    seconds: float = 0.0  # of all runs that had to do with it
    registered: str = ""  # as which version
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Migration:
    """All versions, oldest first."""

    url: str
    versions: tuple[Moved, ...]
    registered_as: str = ""

    @property
    def bytes(self) -> int:
        return sum(version.bytes for version in self.versions)

    @property
    def stored(self) -> int:
        return sum(version.stored for version in self.versions)

    @property
    def failed(self) -> int:
        return sum(version.state == "failed" for version in self.versions)

    def as_dict(self) -> dict[str, Any]:
        totals = {"bytes": self.bytes, "stored": self.stored, "failed": self.failed}
        return {
            "url": self.url,
            **totals,
            "registered_as": self.registered_as,
            "versions": [asdict(version) for version in self.versions],
        }


def migrate(
    target: str,
    *,
    model: str | None = None,
    experiment: str | None = None,
    source: str | None = None,
    register_as: str | None = None,
    order: Order = "auto",
    notes: bool = True,
    allow_missing: bool = False,
    reread: bool = False,
    dry_run: bool = False,
    take_over: bool = False,
    scratch: str | Path | None = None,
    options: Mapping[str, str] | None = None,
    source_options: Mapping[str, str] | None = None,
    progress: MigrationProgress | None = None,
    cancel: Cancellation | None = None,
) -> Migration:
    """Copy versions to a URL in a store: those of a registered `model`, the logged models of an `experiment`, or what
    is in `source`, a directory, a prefix of a bucket (s3://, gs://, az://) or a directory of a store.

    With `notes`, MLflow's versions get a tag that says where they are now; `register_as` registers them, in order, as
    versions of that model that are loaded from the store, all of them or, with `allow_missing`, those that could be
    moved. `reread` reads every original a second time. `scratch` is where files are put that only MLflow can fetch,
    one at a time. `options` are for the store, `source_options` for the bucket that is read.
    """
    if sum(given is not None for given in (model, experiment, source)) != 1:
        raise MigrationRefused("one of a model, an experiment and a source has to be named", remedy="name one of them")
    if register_as is not None and source is not None:
        raise MigrationRefused(
            "what MLflow does not know cannot be registered", remedy="register it by mlflow.register_model afterwards"
        )
    store, base = Store.find(target, options)
    progress = progress if progress is not None else MigrationProgress()
    with ExitStack() as stack:
        room = stack.enter_context(scratch_directory(Path(scratch) if scratch is not None else None))
        versions = _versions(model, experiment, source, room, source_options, order)
        _require_apart(store, versions)
        progress.versions_total = len(versions)
        if dry_run:
            planned = tuple(_planned(store, base, version) for version in versions)
            return Migration(str(store.url.joined(base)), planned, register_as or "")
        store.config.check("write", str(store.url))
        claim = f"{records_of(base)}/under-way.json"
        stack.enter_context(claimed(store, claim, "migration", take_over=take_over))
        run = _Run(store, base, progress, Cancellation(parent=cancel), set(), notes=notes, reread=reread)
        moved = list(run.each(versions))
        if register_as is not None and (allow_missing or all(each.state != "failed" for each in moved)):
            moved = _registered(versions, moved, register_as)
    return Migration(str(store.url.joined(base)), tuple(moved), register_as or "")


@dataclass(frozen=True, slots=True)
class _Run:
    """What all versions of a migration share."""

    store: Store
    base: str
    progress: MigrationProgress
    cancel: Cancellation
    seen: set[bytes]  # chunks of the versions so far
    notes: bool
    reread: bool

    def each(self, versions: Sequence[Version]) -> Iterator[Moved]:
        for version in versions:
            self.cancel.check()
            try:
                moved = self._move(version)
                if self.notes and version.tracked is not None and moved.state != "in a store":
                    moved = _told(version, moved)
            except _OF_ONE_VERSION as error:
                moved = replace(_nothing(self.store, self.base, version), state="failed", problem=str(error))
            self.progress.versions_done += 1
            yield moved

    def _move(self, version: Version) -> Moved:
        if version.missing:
            raise SourceUnusable(f"{version.uri} cannot be moved: {version.missing}")
        if isinstance(version.place, InStore) and version.place.store.config.id == self.store.config.id:
            where = str(self.store.url.joined(version.place.path))
            return Moved(version.name, version.uri, where, "in a store")
        path = below(self.base, version.name)
        record = read_record(self.store, path, version.uri)
        done = copy_version(self.store, path, version, record, self.progress, self.cancel, reread=self.reread)
        return Moved(
            version.name,
            version.uri,
            str(self.store.url.joined(path)),
            "moved" if done.fresh else "was there",
            done.files,
            done.bytes,
            self._new_bytes(path),
            done.sent,
            round(record.seconds, 3),
        )

    def _new_bytes(self, path: str) -> int:
        """What a version takes in the store that those before it do not."""
        total = 0
        for _, manifest in self.store.manifests(path):
            table = manifest.table
            total += len(manifest.inline) if manifest.inline is not None else 0
            for row in range(len(table)):
                if (chunk := table.id(row)) not in self.seen:
                    self.seen.add(chunk)
                    total += int(table.stored[row])
        return total


def _versions(
    model: str | None,
    experiment: str | None,
    source: str | None,
    scratch: Path,
    options: Mapping[str, str] | None,
    order: Order,
) -> list[Version]:
    if source is not None:
        return versions_in(source, options, order)
    from mlflow.exceptions import MlflowException  # noqa: PLC0415  # it takes seconds, and buckets need none of it

    from shardflow.flavor.moving.tracked import logged_models, registered_versions  # noqa: PLC0415

    try:
        if model is not None:
            return registered_versions(model, scratch)
        assert experiment is not None
        return logged_models(experiment, scratch)
    except MlflowException as error:
        raise NothingToMove(f"MLflow does not tell the versions: {error.message}", remedy="check its address") from None


def _require_apart(store: Store, versions: Sequence[Version]) -> None:
    """A store on the disk must not be among what is put into it."""
    home = Path(store.url.path) if store.url.backend == "file" else None
    for version in versions:
        if home is not None and isinstance(version.place, OnDisk) and home.is_relative_to(version.place.path.resolve()):
            raise MigrationRefused(
                f"{version.place.path} holds the store at {store.url}", remedy="name the directories beside the store"
            )


def _planned(store: Store, base: str, version: Version) -> Moved:
    """What would become of a version, as far as listing it tells."""
    nothing = _nothing(store, base, version)
    if version.missing:
        return replace(nothing, state="failed", problem=version.missing)
    try:
        originals = [original for original in version.files() if original.stamp != "directory"]
    except _OF_ONE_VERSION as error:
        return replace(nothing, state="failed", problem=str(error))
    path = below(base, version.name)
    record, stored = read_record(store, path, version.uri), stored_files(store, path)
    there = all(record.has(original, stored) for original in originals)
    size = sum(original.size or 0 for original in originals)
    return replace(nothing, state="was there" if there else "to be moved", files=len(originals), bytes=size)


def _nothing(store: Store, base: str, version: Version) -> Moved:
    return Moved(version.name, version.uri, str(store.url.joined(below(base, version.name))), "to be moved")


def _told(version: Version, moved: Moved) -> Moved:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from shardflow.flavor.moving.tracked import tell  # noqa: PLC0415

    try:
        tell(version, moved.url)
    except MlflowException as error:
        return replace(moved, problem=f"MLflow did not take the tag: {error.message}")
    return moved


def _registered(versions: Sequence[Version], moved: Sequence[Moved], name: str) -> list[Moved]:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    from shardflow.flavor.moving.tracked import register  # noqa: PLC0415

    done = []
    for version, each in zip(versions, moved, strict=True):
        try:
            done.append(each if each.state == "failed" else replace(each, registered=register(version, each.url, name)))
        except MlflowException as error:
            raise MigrationRefused(
                f"MLflow did not register {version.uri} as {name}: {error.message}",
                remedy="run it again when that is settled: nothing is moved twice",
            ) from None
    return done


__all__ = ["Migration", "MigrationProgress", "MigrationRefused", "Moved", "NothingToMove", "migrate"]
