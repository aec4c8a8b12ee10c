"""Checkpoints as zarr arrays, one for each tensor, written and read with TensorStore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from shardflow.flavor.formats import layouts
from shardflow.flavor.formats.bits import NUMPY_NAMES, as_array
from shardflow.flavor.formats.chunk_files import Array, save_coded
from shardflow.flavor.formats.flight import InFlight, said_of
from shardflow.flavor.formats.frames import codec, is_worth_it
from shardflow.flavor.formats.interface import Limits
from shardflow.flavor.formats.layouts import Json, Layout
from shardflow.flavor.formats.listing import LAYOUT_FILE, LISTING_FILE, Item, encode_listing, listing_of
from shardflow.flavor.formats.opening import OPERATIONS, TensorStoreCheckpoint, new_context
from shardflow.flavor.formats.state import PIECE_BYTES, State, bytes_in, pieces, require_tensors
from shardflow.flavor.formats.trees import is_tree, tree_arrays
from shardflow.flavor.slicing import Box
from shardflow.flavor.tensors import BYTES_OF, TensorInfo

_SAMPLE = 64 << 10
_CRC: Json = {"name": "crc32c"}


@dataclass(frozen=True, slots=True)
class TensorStoreFormat:
    """One layout; reading serves every layout, and trees of arrays that others wrote."""

    layout: Layout

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def last(self) -> str:
        return LISTING_FILE

    def recognises(self, directory: Path, /) -> bool:
        if (directory / LAYOUT_FILE).is_file():
            return (directory / LAYOUT_FILE).read_bytes() == self.layout.name.encode()
        return self.layout is layouts.PLAIN and is_tree(directory)

    def save(self, state: State, directory: Path, limits: Limits, /) -> None:
        require_tensors(state)
        (directory / LAYOUT_FILE).write_text(self.layout.name)
        listing = listing_of(self.layout.name, state.tensors, state.aliases)
        coded = _Writing(state, directory, self.layout, limits).write(listing.tensors)
        save_coded(state, coded, limits.memory)
        (directory / LISTING_FILE).write_bytes(encode_listing(listing))

    def open(self, source: Path, /, *, fill_missing: bool = False) -> TensorStoreCheckpoint:
        if (source / LAYOUT_FILE).is_file() or (source / LISTING_FILE).is_file():
            return TensorStoreCheckpoint.of_listing(source, self.layout.at_once)
        return TensorStoreCheckpoint(source, tree_arrays(source, fill_missing=fill_missing))


class _Writing:
    """Tensors on their way to the disk, as many at once as the layout and the memory allow."""

    def __init__(self, state: State, directory: Path, layout: Layout, limits: Limits) -> None:
        self._state = state
        self._directory = directory
        self._layout = layout
        self._context = new_context(OPERATIONS)
        self._memory = limits.memory

    def write(self, items: Mapping[str, Item]) -> list[Array]:
        """Every array's metadata, and the values of those that TensorStore codes; returns the others."""
        left: list[Array] = []
        with InFlight("written", self._layout.at_once, self._memory) as flight:
            for name, item in items.items():
                info = self._state.tensors[name]
                chunk = self._layout.chunk(info)
                coded = self._layout.coded and self._is_worth_it(info)
                array = self._created(info, item, chunk, coded=coded)
                if coded:
                    left.append((info, chunk, self._directory / item.directory))
                else:
                    self._begin(array, info, chunk, flight)
        return left

    def _created(self, info: TensorInfo, item: Item, chunk: tuple[int, ...], *, coded: bool) -> Any:
        spec = self._spec(info, item, chunk, coded=coded)
        with said_of(info.name, "written"):
            return ts.open(spec, context=self._context).result()

    def _begin(self, array: Any, info: TensorInfo, chunk: tuple[int, ...], flight: InFlight) -> None:
        flight.next_tensor(info.name)
        for box in pieces(info, min(PIECE_BYTES, max(1, self._memory // 4)), chunk):
            flight.copy(bytes_in(box, info.dtype), partial(self._copying, array[box], info, box))

    def _copying(self, part: Any, info: TensorInfo, box: Box) -> Any:
        values = as_array(self._state.read(info.name, box), info.dtype)
        return part.write(values, can_reference_source_data_indefinitely=True)

    def _is_worth_it(self, info: TensorInfo) -> bool:
        width = BYTES_OF[info.dtype]
        box = next(pieces(info, _SAMPLE * width), None)
        if box is None:
            return False
        sample = as_array(self._state.read(info.name, box).contiguous(), info.dtype)
        return is_worth_it(sample.reshape(-1).view(np.uint8), width)

    def _spec(self, info: TensorInfo, item: Item, chunk: tuple[int, ...], *, coded: bool) -> Json:
        if self._layout.driver == "zarr":
            metadata = layouts.version_2(info, chunk, self._layout.codec)
        else:
            metadata = layouts.version_3(info, chunk, [codec(BYTES_OF[info.dtype]) if coded else _CRC])
        return {
            "driver": self._layout.driver,
            "kvstore": {"driver": "file", "path": f"{self._directory / item.directory}/"},
            "dtype": NUMPY_NAMES[info.dtype],
            "metadata": metadata,
            "create": True,
            "store_data_equal_to_fill_value": True,  # a chunk that is missing is then one that was lost
        }


PLAIN = TensorStoreFormat(layouts.PLAIN)
T5X = TensorStoreFormat(layouts.T5X)
FAST = TensorStoreFormat(layouts.FAST)
