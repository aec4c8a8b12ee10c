"""Reads arrays through TensorStore, and says which tensor it was where one cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorstore as ts
import torch

from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.formats.bits import DTYPES, Array, as_array
from shardflow.flavor.formats.errors import CheckpointDamaged
from shardflow.flavor.formats.flight import InFlight, said_of
from shardflow.flavor.formats.layouts import Json
from shardflow.flavor.formats.listing import LISTING_FILE, Listing, decode_listing
from shardflow.flavor.formats.state import PIECE_BYTES, bytes_in, pieces
from shardflow.flavor.memory import empty_for
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import TensorInfo, is_possible
from shardflow.flavor.torch_types import TORCH_TYPES
from shardflow.store.store import shared_budget

OPERATIONS = 128
AT_ONCE = 1024


def new_context(operations: int = OPERATIONS) -> Any:
    """What TensorStore may take while it works on the arrays of one checkpoint."""
    return ts.Context(
        {
            "file_io_concurrency": {"limit": operations},
            "file_io_sync": False,  # as torch.save: what is written is not forced to the disk
            "cache_pool": {"total_bytes_limit": 0},
        }
    )


def listed(directory: Path) -> Listing:
    file = directory / LISTING_FILE
    if not file.is_file():
        raise CheckpointUnusable(f"{directory} is unfinished: it has no {LISTING_FILE}", remedy="save it again")
    return decode_listing(file.read_bytes(), str(file))


class TensorStoreCheckpoint:
    """Arrays by name, each opened when it is read."""

    def __init__(
        self,
        source: Path,
        specs: Mapping[str, Json | Array],
        tensors: Mapping[str, TensorInfo] | None = None,
        aliases: Mapping[str, str] | None = None,
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        self._source = source
        self._specs = specs
        self._at_once = at_once
        self._context = new_context()
        self.aliases = dict(aliases or {})
        self.tensors = tensors if tensors is not None else self._found()

    @classmethod
    def of_listing(cls, directory: Path, at_once: int) -> TensorStoreCheckpoint:
        """What `tensors.json` lists; whatever is missing of that is lost."""
        listing = listed(directory)
        specs = {name: array_spec(directory / item.directory) for name, item in listing.tensors.items()}
        tensors = {name: TensorInfo(name, item.dtype, item.shape) for name, item in listing.tensors.items()}
        return cls(directory, specs, tensors, listing.aliases, at_once=min(AT_ONCE, at_once))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Arrays are not held open."""

    def read(self, name: str, box: Box | None = None, /) -> torch.Tensor:
        kept = self.aliases.get(name, name)
        with InFlight("read", 1, shared_budget().total, self._source) as flight:
            return self._begun(kept, box, flight)

    def load(self, names: Iterable[str], /) -> dict[str, torch.Tensor]:
        """Several tensors, all in flight at once, as far as the layout and the memory allow."""
        wanted = {name: self.aliases.get(name, name) for name in names}
        with InFlight("read", self._at_once, shared_budget().total, self._source) as flight:
            made = {kept: self._begun(kept, None, flight) for kept in dict.fromkeys(wanted.values())}
        return {name: made[kept] for name, kept in wanted.items()}

    def _begun(self, name: str, box: Box | None, flight: InFlight) -> torch.Tensor:
        """The memory that a tensor, or the part of it in a box, is being read into."""
        if name not in self.tensors:
            raise CheckpointUnusable(f"{self._source} has no tensor called {name}")
        info = self.tensors[name]
        array = self._opened(info)
        chunk = array.chunk_layout.read_chunk.shape
        if chunk is not None and None in chunk:  # in memory, in no chunks
            chunk = info.shape
        boxes = [box] if box is not None else pieces(info, min(PIECE_BYTES, max(1, flight.total // 4)), chunk)
        shape = info.shape if box is None else tuple(each.stop - each.start for each in box)
        target = empty_for(f"{self._source}: tensor {name}", shape, TORCH_TYPES[info.dtype])
        into = ts.array(as_array(target, info.dtype))
        flight.next_tensor(name)
        for each in boxes:
            part = into if box is not None else into[each]
            flight.copy(bytes_in(each, info.dtype), partial(part.write, array[each]))
        return target

    def _opened(self, info: TensorInfo) -> Any:
        with said_of(info.name, "read", self._source):
            array = self._opening(info.name).result()
        if array.dtype.name not in DTYPES or DTYPES[array.dtype.name] != info.dtype or array.shape != info.shape:
            raise CheckpointDamaged(
                f"{self._source}: tensor {info.name} is {array.dtype.name} {array.shape}, "
                f"not {info.dtype} {info.shape}",
                remedy="restore the checkpoint from a copy",
            )
        return array

    def _found(self) -> dict[str, TensorInfo]:
        """Types and shapes as the arrays have them, where nothing lists them."""
        openings = {name: self._opening(name) for name in self._specs}
        return {name: self._info(name, opening) for name, opening in openings.items()}

    def _opening(self, name: str) -> Any:
        """The array once it is open: it may be in memory already."""
        spec = self._specs[name]
        if not isinstance(spec, np.ndarray):
            return ts.open(spec, context=self._context, open=True)
        opened: tuple[Any, Any] = ts.Promise.new()
        promise, future = opened
        promise.set_result(ts.array(spec))
        return future

    def _info(self, name: str, opening: Any) -> TensorInfo:
        with said_of(name, "read", self._source):
            array = opening.result()
        if array.dtype.name not in DTYPES:
            raise CheckpointUnusable(
                f"{self._source}: tensor {name} has elements of type {array.dtype.name}, which is not known here"
            )
        info = TensorInfo(name, DTYPES[array.dtype.name], tuple(array.shape))
        if not is_possible(info.dtype, info.shape):
            raise CheckpointUnusable(f"{self._source}: there can be no tensor {name} of the shape {list(info.shape)}")
        return info


def array_spec(directory: Path, *, fill_missing: bool = False) -> Json:
    """How TensorStore opens the array in a directory."""
    driver = "zarr" if (directory / ".zarray").is_file() else "zarr3"
    return spec_at({"driver": "file", "path": f"{directory}/"}, driver, fill_missing=fill_missing)


def spec_at(kvstore: Json, driver: str, *, fill_missing: bool) -> Json:
    return {"driver": driver, "kvstore": kvstore, "fill_missing_data_reads": fill_missing}
