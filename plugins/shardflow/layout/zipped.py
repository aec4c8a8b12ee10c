"""Formats that are zip archives of uncompressed members: torch checkpoints and NumPy's .npz."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shardflow.layout import archive, npy, torch_zip
from shardflow.layout.model import Damaged, Layout, ReadAt, lay_out

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = archive.MAGIC


def parse(read_at: ReadAt, size: int) -> Layout:
    """A torch checkpoint if its pickle is there, an .npz if arrays are."""
    members = archive.members(read_at, size)
    root = next(iter(members), "").partition("/")[0]
    if f"{root}/data.pkl" in members:
        return torch_zip.parse(read_at, size, root, members)
    return _npz(read_at, size, members)


def _npz(read_at: ReadAt, size: int, members: Mapping[str, archive.Member]) -> Layout:
    """Compressed members, and those that are no plain array (numpy allows pickles), stay bytes."""
    arrays = []
    for name, member in members.items():
        if name.endswith(".npy") and len(name) > 4 and member.stored:
            start = archive.start_of(read_at, size, member)
            try:
                arrays.append(npy.array_at(read_at, start, start + member.length, name.removesuffix(".npy")))
            except Damaged:
                continue
    if not arrays:
        raise Damaged("an archive without arrays")
    return lay_out("npz", size, [array.segment for array in arrays], [array.tensor for array in arrays])
