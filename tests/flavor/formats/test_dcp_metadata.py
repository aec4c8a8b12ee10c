"""The metadata of a distributed checkpoint, as any Python wrote them, and as nobody should have."""

from __future__ import annotations

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from shardflow.errors import ShardflowError
from shardflow.flavor import formats
from shardflow.flavor.errors import CheckpointUnusable, TrustRequired
from shardflow.flavor.formats.errors import CheckpointDamaged

FLOATS = TensorProperties(torch.float32)


def path_of(home: str, name: str) -> bytes:
    """A pickle of the path `a/b`, as a Python that has the class there writes it."""
    return b"".join([b"\x80\x04", b"c", home.encode(), b"\n", name.encode(), b"\n", b"(X\x01\0\0\0aX\x01\0\0\0btR."])


def chunk(offsets: Any, sizes: Any) -> ChunkStorageMetadata:
    return ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes))


def tensor(size: Any, *chunks: Any) -> TensorStorageMetadata:
    return TensorStorageMetadata(FLOATS, size, list(chunks))


def described(**entries: Any) -> Metadata:
    return Metadata(entries)


def placed(place: Any, index: Any = None) -> Metadata:
    """A tensor of one part, which is somewhere."""
    found = described(w=tensor(torch.Size([4]), chunk([0], [4])))
    found.storage_data = {index or MetadataIndex("w", torch.Size([0]), 0): place}
    return found


@pytest.mark.parametrize("home", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize("name", ["PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"])
def test_the_path_that_torch_notes_may_be_of_any_python_and_any_system(
    home: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {"w": torch.arange(4.0)}
    formats.save(state, tmp_path / "c", format="dcp")
    found = pickle.loads((tmp_path / "c" / ".metadata").read_bytes())
    there = types.ModuleType(home)
    written = type(name, (), {"__module__": home})
    setattr(there, name, written)
    monkeypatch.setitem(sys.modules, home, there)
    found.storage_meta = StorageMeta(checkpoint_id=written())  # type: ignore[arg-type]
    (tmp_path / "c" / ".metadata").write_bytes(pickle.dumps(found))
    monkeypatch.undo()
    assert torch.equal(formats.load(tmp_path / "c")["w"], state["w"])
    (tmp_path / "c" / ".metadata").write_bytes(path_of(home, name))
    with pytest.raises(CheckpointDamaged, match="describes no checkpoint"):
        formats.load(tmp_path / "c")


def test_nothing_else_of_pathlib_is_made(tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(path_of("pathlib", "Path"))
    with pytest.raises(TrustRequired, match=r"hold pathlib\.Path, which describes no tensors"):
        formats.load(tmp_path)


@pytest.mark.parametrize(
    "found",
    [
        Metadata(None),  # type: ignore[arg-type]
        Metadata({5: BytesStorageMetadata()}),  # type: ignore[dict-item]
        described(w="text"),
        described(w=tensor(None)),
        described(w=tensor(torch.Size([-5]))),
        described(w=tensor([1.5])),
        described(w=tensor(torch.Size([4]), None)),
        described(w=tensor(torch.Size([4]), chunk([0, 0], [2, 2]))),
        described(w=tensor(torch.Size([4]), chunk([-1], [2]))),
        described(w=TensorStorageMetadata(None, torch.Size([4]), [])),  # type: ignore[arg-type]
        described(w=TensorStorageMetadata.__new__(TensorStorageMetadata)),
        placed("x"),
        placed(_StorageInfo(5, 0, 4)),  # type: ignore[arg-type]
        placed(_StorageInfo("a\0b", 0, 4)),
        placed(_StorageInfo("a", -1, 4)),
        placed(_StorageInfo("a", 0, None)),  # type: ignore[arg-type]
        placed(_StorageInfo("a", 0, 4), index="w"),
    ],
)
def test_metadata_that_make_no_sense_are_damaged(found: Metadata, tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(found))
    with pytest.raises(CheckpointDamaged, match=r"\.metadata describes no checkpoint"):
        formats.load(tmp_path)


@pytest.mark.parametrize("data", [b"\x80\x04" + b"(" * 100 + b".", b"\x80\x04ctorch\nSize\n(U\x01/tR.", b"", b"("])
def test_what_is_no_pickle_of_metadata_is_damaged(data: bytes, tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(data)
    with pytest.raises(CheckpointDamaged, match=r"\.metadata cannot be understood"):
        formats.load(tmp_path)


@pytest.mark.parametrize(
    ("size", "error", "why"),
    [
        ([1 << 50], CheckpointUnusable, "there is no memory for .*tensor w"),
        ([1 << 62, 4], CheckpointDamaged, "tensor w cannot be read: there can be none"),
        ([0, (1 << 63) - 1, (1 << 63) - 1], CheckpointDamaged, "tensor w cannot be read: there can be none"),
    ],
)
def test_a_tensor_that_no_machine_could_hold_is_told(
    size: list[int], error: type[ShardflowError], why: str, tmp_path: Path
) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(described(w=tensor(torch.Size(size)))))
    with pytest.raises(error, match=why):
        formats.load(tmp_path)


@pytest.mark.parametrize("place", [_StorageInfo("a", 0, 1 << 62), _StorageInfo("a", 1 << 62, 4)])
def test_a_part_that_is_longer_than_its_file_is_told(place: _StorageInfo, tmp_path: Path) -> None:
    (tmp_path / ".metadata").write_bytes(pickle.dumps(placed(place)))
    (tmp_path / "a").write_bytes(b"abcd")
    with pytest.raises(CheckpointDamaged, match="tensor w cannot be read: a is cut short"):
        formats.load(tmp_path)
