"""Writes a checkpoint of any number of ranks: each its own file, and one the description once all files are there."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from shardflow.flavor.checkpointing import files
from shardflow.flavor.checkpointing.attempts import Attempt, begun, swept
from shardflow.flavor.checkpointing.errors import CheckpointDamaged
from shardflow.flavor.dcp.errors import PlanUnusable
from shardflow.flavor.dcp.items import RankFile
from shardflow.flavor.dcp.layout import encode_checkpoint, rank_file
from shardflow.flavor.dcp.metadata import described, places_of
from shardflow.flavor.dcp.places import Order, as_base, directory_of, is_numbered, one_before, place_of
from shardflow.flavor.recipe import StoredFile
from shardflow.store.errors import PathMissing
from shardflow.store.progress import Progress
from shardflow.store.store import Store
from shardflow.transport import StoreURL
from shardflow.transport.url import SCHEME


class Writer(StorageWriter):
    """For `torch.distributed.checkpoint.save(state, storage_writer=Writer(url))`.

    Tensors are stored by how they differ from an earlier checkpoint: the one that `base` names by its URL, or the one
    this writer wrote before, or the one beside it with the next lower number in its name. A checkpoint that stands at
    the URL already counts until all of the new one is there; of two that are written there at once, the one that is
    finished last stays. Values other than tensors are stored as JSON; those that
    cannot be are refused, unless `trust` allows to pickle them, and then whoever loads them has to say so too.
    """

    def __init__(self, url: str | os.PathLike[str], *, base: str | None = None, trust: bool = False) -> None:
        super().__init__()
        self.url = str(url)
        self.progress = Progress()  # of what this rank wrote
        self._base = base
        self._trust = trust
        self._written: str | None = None
        self._attempt: Attempt | None = None  # of the coordinator

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        if checkpoint_id:
            self.url = str(checkpoint_id)
        self.progress = Progress()

    @property
    def checkpoint_id(self) -> str:
        return self.url

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        if not kwargs.get("use_collectives", True):
            raise PlanUnusable(
                "without collectives nobody knows when all ranks have written", remedy="save with use_collectives=True"
            )

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """The coordinator decides for all where their files go, and what they are coded against."""
        store, path = self._store()
        base = self._found_base(store, path)
        self._give_up()
        self._attempt = begun(place_of(store, path))
        directory = self._attempt.directory
        orders = [Order(rank_file(rank), directory, base) for rank in range(len(plans))]
        return [replace(plan, storage_data=order) for plan, order in zip(plans, orders, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        order: Order = plan.storage_data
        rank = RankFile(order.file, self._trust)
        rank.take(plan.items, planner)
        store, path = Store.find(self.url)
        where = _inside(path, order.directory)
        source = rank.source(where)
        if source is not None:
            files.put_against(store, [source], where, order.base, progress=self.progress)
        done: Future[list[WriteResult]] = Future()
        done.set_result(rank.results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """The coordinator makes the checkpoint count, and removes what it takes the place of."""
        attempt, self._attempt = self._attempt, None
        assert attempt is not None  # torch lets the coordinator plan before it finishes
        place, store = attempt.place, attempt.place.store
        places = places_of(results)
        with attempt:
            needed = sorted({each.file for each in places.values()} - {""})
            stored = tuple(self._stored(store, _inside(attempt.path, name)) for name in needed)
            checkpoint = described(metadata, places, attempt.directory, stored)
            files.put_text(store, place.marker_path, encode_checkpoint(checkpoint))
        swept(place, lambda: directory_of(store, place.path), attempt.directory)
        metadata.storage_data = places
        metadata.storage_meta = self.storage_meta()
        self._written = place.path

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        return str(checkpoint_id).startswith(f"{SCHEME}:")

    def storage_meta(self) -> StorageMeta:
        return StorageMeta(checkpoint_id=self.url)

    def _found_base(self, store: Store, path: str) -> str | None:
        if self._base is not None:
            return as_base(store, files.base_in(store, self._base))
        return as_base(store, self._written or one_before(store, path))

    def _give_up(self) -> None:
        """A checkpoint that this writer began and did not finish."""
        if self._attempt is not None:
            self._attempt.release()
            self._attempt = None

    def _store(self) -> tuple[Store, str]:
        """The store, made above a checkpoint with a number, so that the next one will lie in it too."""
        url = StoreURL.parse(self.url)
        parent = url.parent
        if parent is not None and is_numbered(url.name):
            files.store_for(str(parent))
            return Store.find(url)
        return files.store_for(self.url)

    def _stored(self, store: Store, path: str) -> StoredFile:
        try:
            return files.as_stored(store, path)
        except PathMissing:
            name = path.rpartition("/")[2]
            raise CheckpointDamaged(f"{self.url} has lost {name}, which a rank wrote", remedy="save it again") from None


def _inside(directory: str, name: str) -> str:
    return "/".join(part for part in (directory, name) if part)
