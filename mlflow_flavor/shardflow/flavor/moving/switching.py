"""Puts a model in a store into other files, in an order in which it can be read at every moment.

The new files are written first, under names that no present file has; then what names the files: the recipe, and last
of all the index, one object, with which readers go over. Only then go the files that are needed no more. Where the
new files are to have names that are in use, they are written under others first, which costs no more than a few
kilobytes: their chunks are in the store by then.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import msgspec

from shardflow.flavor.card import CARD_FILE, resharded
from shardflow.flavor.index import INDEX_FILE, made_index
from shardflow.flavor.moving.division import ENDING, Division
from shardflow.flavor.plans import Plan
from shardflow.flavor.recipe import RECIPE_FILE, StoredFile, encode_recipe
from shardflow.flavor.shards import ShardSource, shard_sources
from shardflow.flavor.writing import Written
from shardflow.store.entries import sum_of
from shardflow.store.errors import PathMissing
from shardflow.store.progress import Progress
from shardflow.store.putting import put_sources
from shardflow.store.store import Store
from shardflow.transport import Cancellation

MODEL_FILE = "MLmodel"
_SIZE = re.compile(r"^model_size_bytes: *\d+ *$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Switch:
    """From the files that a model has to those it is to have; `path` is where its weights are."""

    store: Store
    path: str
    present: Division
    target: Plan

    @property
    def needed(self) -> bool:
        """Whether the target is any other than what there is."""
        wanted = {shard.file: {tensor.name for tensor in shard.tensors} for shard in self.target.shards}
        return wanted != self.present.files or (len(wanted) > 1) != self.present.index

    def steps(self) -> Iterator[Plan]:
        """The plans that are put in place one after the other, the last of which is the target."""
        sizes = {source.path: source.header for source in self.sources(self.target)}
        taken = [name for name in sizes.keys() & self.present.files.keys() if not self._is_there(name, sizes[name])]
        if taken:
            yield _under_other_names(self.target)
        yield self.target

    def sources(self, plan: Plan) -> list[ShardSource]:
        """The files of a plan, as a store takes them."""
        return list(shard_sources(plan, self.present.contents, metadata=self.present.metadata))

    def _is_there(self, name: str, header: bytes) -> bool:
        file = self.present.folder.open(name)
        try:
            return file.read_at(0, len(header)) == header
        finally:
            file.close()


def put_in_place(switch: Switch, plan: Plan, progress: Progress, cancel: Cancellation | None) -> Written:
    """Write the files of a plan, then what leads readers to them; the files before them stay."""
    store = switch.store
    sources = [replace(source, path=_joined(switch.path, source.path)) for source in switch.sources(plan)]
    before = [_joined(switch.path, name) for name in switch.present.files]
    put_sources(store, sources, switch.path, parts_of=before, progress=progress, cancel=cancel)
    written = written_files(store, switch.path, plan, progress)
    recipe = switch.present.recipe
    if recipe is not None:
        changed = msgspec.structs.replace(recipe, sharding=plan.method, files=written.files)
        _put(store, _joined(switch.path, RECIPE_FILE), encode_recipe(changed))
    _put(store, _joined(switch.path, INDEX_FILE), made_index(plan))
    return written


def written_files(store: Store, path: str, plan: Plan, progress: Progress) -> Written:
    """The files of a plan that is in place."""
    stats = [store.stat(_joined(path, shard.file)) for shard in plan.shards]
    found = zip(plan.shards, stats, strict=True)
    files = tuple(StoredFile(shard.file, stat.size, stat.digest or "") for shard, stat in found)
    return Written(files, progress.totals.bytes_sent, progress.bytes_reused, sum_of(path, stats).codecs)


def describe(store: Store, model: str, path: str, plan: Plan, written: Written) -> None:
    """Tell of the new files where people look: on the card of the model, and in MLmodel."""
    inside = path[len(model) :].strip("/")
    card, described = _joined(model, CARD_FILE), _joined(model, MODEL_FILE)
    with contextlib.suppress(PathMissing):
        text = _read(store, card).decode()
        _put(store, card, resharded(text, plan, written, inside).encode())
    with contextlib.suppress(PathMissing):
        text = _read(store, described).decode()
        size = sum(file.size for file in written.files)
        _put(store, described, _SIZE.sub(f"model_size_bytes: {size}", text).encode())


def leave_behind(store: Store, path: str, names: Iterable[str], plan: Plan) -> list[str]:
    """Remove the files that a plan has no use for; an index goes last, and only where one file is all there is."""
    kept = {shard.file for shard in plan.shards}
    gone = sorted(name for name in names if name not in kept)
    removed = [name for name in gone if _removed(store, _joined(path, name))]
    if len(kept) == 1:
        _removed(store, _joined(path, INDEX_FILE))
    return removed


def _under_other_names(plan: Plan) -> Plan:
    count = len(plan.shards)
    shards = [
        replace(shard, file=f"resharding-{number:05}-of-{count:05}{ENDING}")
        for number, shard in enumerate(plan.shards, start=1)
    ]
    return replace(plan, shards=tuple(shards))


def _put(store: Store, path: str, data: bytes) -> None:
    store.put(io.BytesIO(data), path)


def _read(store: Store, path: str) -> bytes:
    with store.open(path) as file:
        return file.read_at(0, file.size)


def _removed(store: Store, path: str) -> bool:
    try:
        return store.rm(path) > 0
    except PathMissing:
        return False


def _joined(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
