"""Writes the file that torch.save would write, of tensors that need not be in memory together.

torch lays the file out around tensors of untouched memory; the values then go to their places piece by piece, and
their checksums into the directory of the archive, so that other programs for zip archives accept it too.
"""

from __future__ import annotations

import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch.serialization import skip_data

from shardflow.flavor.copying import as_memory
from shardflow.flavor.formats.state import MemoryState, State, pieces
from shardflow.flavor.tensors import TensorInfo
from shardflow.flavor.torch_types import TORCH_TYPES
from shardflow.store.errors import TargetUnusable

_RESERVE_NOTHING = 0x4000 if os.uname().sysname == "Linux" else 0  # MAP_NORESERVE, which Python has no name for
_DESCRIBED_AFTER = 0x08
_DESCRIPTOR = b"PK\x07\x08"
_ENTRY = b"PK\x01\x02"


def write_torch(state: State, file: Path, piece_bytes: int) -> None:
    """A state dict in a new file."""
    if isinstance(state, MemoryState):
        _save(_own_storages(state), file)
        return
    with skip_data():
        _save(laid_out(state), file)
    with file.open("r+b", buffering=0) as out:
        places = _places(file, len(state.tensors))
        filling = zip(state.tensors.values(), places, strict=True)
        sums = [_filled(out, state, info, place, piece_bytes) for info, place in filling]
        _note_sums(out, places, sums)


def _save(values: dict[str, torch.Tensor], file: Path) -> None:
    with write_failures(file):
        torch.save(values, file)


@contextmanager
def write_failures(file: Path) -> Iterator[None]:
    """Say it plainly where torch could not write; it does not tell why, and disks are full more often than broken."""
    try:
        yield
    except RuntimeError as error:
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise
        raise TargetUnusable(f"{file.name} cannot be written to the end", remedy="make room for it") from None


def _own_storages(state: MemoryState) -> dict[str, torch.Tensor]:
    """Tensors that are a part of a larger storage would take all of it along."""
    values = {
        name: value if value.untyped_storage().nbytes() == value.nbytes else value.contiguous().clone()
        for name, value in state.values.items()
    }
    return values | {alias: values[kept] for alias, kept in state.aliases.items()}


def laid_out(state: State) -> dict[str, torch.Tensor]:
    untouched = {name: _untouched(info) for name, info in state.tensors.items()}
    return untouched | {alias: untouched[kept] for alias, kept in state.aliases.items()}


def _untouched(info: TensorInfo) -> torch.Tensor:
    """A tensor that takes up addresses, and no memory as long as nobody looks at it."""
    dtype = TORCH_TYPES[info.dtype]
    if not info.size:
        return torch.empty(info.shape, dtype=dtype)
    memory = mmap.mmap(-1, info.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _RESERVE_NOTHING)
    return torch.frombuffer(memory, dtype=dtype).view(info.shape)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the values of a tensor go, and its entry in the archive's directory."""

    begin: int
    size: int
    entry: int
    described_after: bool


def _places(file: Path, count: int) -> list[_Place]:
    """In the order in which torch numbers storages, which is that of the tensors."""
    with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
        found: dict[int, _Place] = {}
        entry = archive.start_dir
        for info in archive.infolist():
            head, _, number = info.filename.rpartition("/")
            if head.endswith("/data") and number.isdigit():
                begin = info.header_offset + 30 + sum(_lengths(raw, info.header_offset + 26))
                found[int(number)] = _Place(begin, info.file_size, entry, bool(info.flag_bits & _DESCRIBED_AFTER))
            entry += 46 + sum(_lengths(raw, entry + 28, 3))
    return [found[number] for number in range(count)]


def _lengths(raw: BinaryIO, offset: int, count: int = 2) -> tuple[int, ...]:
    raw.seek(offset)
    return struct.unpack(f"<{count}H", raw.read(2 * count))


def _filled(out: BinaryIO, state: State, info: TensorInfo, place: _Place, piece_bytes: int) -> int:
    """Write the values of one tensor; returns their checksum."""
    assert place.size == info.size
    offset, checksum = place.begin, 0
    for box in pieces(info, piece_bytes):
        memory = as_memory(state.read(info.name, box).contiguous())
        checksum = zlib.crc32(memory, checksum)
        while memory:
            written = os.pwrite(out.fileno(), memory, offset)
            offset += written
            memory = memory[written:]
    return checksum


def _note_sums(out: BinaryIO, places: list[_Place], sums: list[int]) -> None:
    for place, checksum in zip(places, sums, strict=True):
        packed = struct.pack("<I", checksum)
        assert os.pread(out.fileno(), 4, place.entry) == _ENTRY
        os.pwrite(out.fileno(), packed, place.entry + 16)
        end = place.begin + place.size
        if place.described_after and os.pread(out.fileno(), 4, end) == _DESCRIPTOR:
            os.pwrite(out.fileno(), packed, end + 4)
