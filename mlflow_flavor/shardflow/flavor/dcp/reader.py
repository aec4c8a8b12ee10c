"""Reads from a checkpoint what one rank needs, straight into its tensors, however many ranks wrote it."""

from __future__ import annotations

import io
import operator
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Lock
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from shardflow.flavor.checkpointing import files
from shardflow.flavor.checkpointing.errors import CheckpointDamaged
from shardflow.flavor.checkpointing.trees import unflatten
from shardflow.flavor.dcp.errors import PlanUnusable
from shardflow.flavor.dcp.items import Place
from shardflow.flavor.dcp.layout import Checkpoint, Value
from shardflow.flavor.dcp.metadata import as_metadata
from shardflow.flavor.dcp.places import read_checkpoint
from shardflow.flavor.errors import TrustRequired
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.header import Header, read_header
from shardflow.flavor.reading import TensorReader, Wanted
from shardflow.flavor.slicing import Box, box_of
from shardflow.store.reader import Reader as StoredReader
from shardflow.store.store import Store
from shardflow.transport.url import SCHEME


class Reader(StorageReader):
    """For `torch.distributed.checkpoint.load(state, storage_reader=Reader(url))`.

    Nothing is unpickled that the checkpoint holds, unless `trust` says so: a value that was pickled because its writer
    was trusted is refused otherwise.
    """

    def __init__(self, url: str | os.PathLike[str], *, trust: bool = False) -> None:
        super().__init__()
        self.url = str(url)
        self._trust = trust
        self._places: dict[MetadataIndex, Place | Value] = {}

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        if checkpoint_id:
            self.url = str(checkpoint_id)
        self._places = {}

    @property
    def checkpoint_id(self) -> str:
        return self.url

    def read_metadata(self) -> Metadata:
        store, path = Store.find(self.url)
        metadata = as_metadata(read_checkpoint(store, path), self.url)
        metadata.storage_meta = StorageMeta(checkpoint_id=self.url)
        return metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *_: Any, **kwargs: Any) -> None:  # noqa: ARG002
        self._places = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        store, path = Store.find(self.url)
        checkpoint = read_checkpoint(store, path)
        folder = StoreFolder(store, "/".join(part for part in (path, checkpoint.directory) if part))
        with ExitStack() as stack:
            reading = _Reading(folder, checkpoint, self.url, stack)
            tensors = [item for item in plan.items if item.type is LoadItemType.TENSOR]
            self._read_tensors(tensors, planner, reading)
            for item in plan.items:
                if item.type is LoadItemType.BYTE_IO:
                    planner.load_bytes(item, self._value(item, reading))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return str(checkpoint_id).startswith(f"{SCHEME}:")

    def _read_tensors(self, items: Iterable[ReadItem], planner: LoadPlanner, reading: _Reading) -> None:
        """All at once; the planner itself is only asked from this thread."""
        asked = [(item, planner.resolve_tensor(item)) for item in items]

        def read(item: ReadItem, target: torch.Tensor) -> None:
            place = self._place(item)
            if not isinstance(place, Place):
                raise PlanUnusable(f"{item.storage_index.fqn} is to be a tensor, and is none")
            reading.box(place, item).fill(target.detach(), _box(item))

        with ThreadPoolExecutor(reading.at_once, thread_name_prefix="shardflow-load") as pool:
            for done in [pool.submit(read, item, target) for item, target in asked]:
                done.result()
        for item, target in asked:
            planner.commit_tensor(item, target)

    def _value(self, item: ReadItem, reading: _Reading) -> io.BytesIO:
        """What torch's planners unpickle: pickled here a moment before, from what is no pickle."""
        fqn, place = item.storage_index.fqn, self._place(item)
        if not isinstance(place, Value):
            raise PlanUnusable(f"{fqn} is to be a value, and is a tensor")
        if place.pickled and not self._trust:
            raise TrustRequired(
                f"{fqn} of {self.url} is a pickle, and loading it runs code that came with it",
                remedy="pass trust=True if you know who saved it",
            )
        value = unflatten(place.tree, reading.tensors_of(place, fqn), f"{fqn} of {self.url}")
        if place.pickled:
            return io.BytesIO(value)
        made = io.BytesIO()
        torch.save(value, made)
        made.seek(0)
        return made

    def _place(self, item: ReadItem) -> Place | Value:
        try:
            return self._places[item.storage_index]
        except KeyError:
            raise PlanUnusable(f"{self.url} has no {item.storage_index.fqn} from there") from None


class _Reading:
    """The files that one rank reads from, each opened when it is first needed."""

    def __init__(self, folder: StoreFolder, checkpoint: Checkpoint, name: str, stack: ExitStack) -> None:
        self._folder = folder
        self._known = {file.name: file for file in checkpoint.files}
        self._name = name
        self._stack = stack
        self._open: dict[str, tuple[StoredReader, Header]] = {}
        self._opening = Lock()

    @property
    def at_once(self) -> int:
        return self._folder.at_once

    def box(self, place: Place, item: ReadItem) -> TensorReader:
        """What reads a part of a tensor from the file that has it."""
        fqn = item.storage_index.fqn
        reader, header = self._file(place.file, fqn)
        entry = header.entries.get(place.name)
        wanted = [part.stop for part in _box(item)]
        if entry is None or len(entry.shape) != len(wanted) or any(map(operator.gt, wanted, entry.shape)):
            raise CheckpointDamaged(f"{place.file} of {self._name} has another {fqn}", remedy="load another checkpoint")
        return TensorReader(f"{fqn} of {self._name}", reader, entry)

    def tensors_of(self, value: Value, fqn: str) -> dict[str, torch.Tensor]:
        """The tensors that are inside of a value."""
        if not value.file:
            return {}
        reader, header = self._file(value.file, fqn)
        made = {}
        for name in _tensors_in(value.tree) & header.entries.keys():
            entry = header.entries[name]
            made[name] = TensorReader(f"{fqn} of {self._name}", reader, entry).read(
                box_of(None, name, entry.shape), Wanted()
            )
        return made

    def _file(self, name: str, fqn: str) -> tuple[StoredReader, Header]:
        with self._opening:
            if name not in self._open:
                if name not in self._known:
                    raise CheckpointDamaged(f"{self._name} has no file for {fqn}", remedy="load another checkpoint")
                reader = files.opened(self._folder, self._known[name], self._name, holds=fqn)
                self._stack.callback(reader.close)
                self._open[name] = reader, read_header(reader.read_at, reader.size, f"{self._name}: {name}")
            return self._open[name]


def _box(item: ReadItem) -> Box:
    pairs = zip(item.storage_offsets, item.lengths, strict=True)
    return tuple(slice(offset, offset + length) for offset, length in pairs)


def _tensors_in(tree: Any) -> set[str]:
    """Texts that may be names of tensors, and a few more."""
    if isinstance(tree, str):
        return {tree}
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return {name for part in parts for name in _tensors_in(part)}
