"""Digests of a model's tensors, kept beside weights that are in no store of their client's.

Where a server writes to the store, or there is none, no chunks tell what became of a parent's tensors. The digests do,
and they are small: the parent's weights are not fetched.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from blake3 import blake3
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from shardflow.flavor.changes import Changes, Status, changes_of
from shardflow.flavor.decoding import Undecodable, decoded
from shardflow.flavor.errors import CheckpointUnusable
from shardflow.flavor.header import Entry, read_header

DIGESTS_FILE = "tensors.json"


class TensorDigest(msgspec.Struct, frozen=True):
    """A tensor and what is in it."""

    dtype: str
    shape: tuple[int, ...]
    size: int  # in bytes
    digest: str  # BLAKE3, in hexadecimal


class TensorDigests(msgspec.Struct, frozen=True):
    """Those of a whole model."""

    tensors: Mapping[str, TensorDigest]
    aliases: Mapping[str, str]  # names of tensors that are stored under another name
    format: int = 1

    def find(self, name: str) -> TensorDigest | None:
        return self.tensors.get(self.aliases.get(name, name))


def write_digests(directory: Path, files: Iterable[str], aliases: Mapping[str, str]) -> TensorDigests:
    """Put those of the safetensors files in a directory beside them."""
    made = TensorDigests({name: found for file in files for name, found in _in_file(directory / file)}, dict(aliases))
    (directory / DIGESTS_FILE).write_bytes(msgspec.json.encode(made))
    return made


def logged_digests(location: str, weights: str) -> TensorDigests | None:
    """Those that lie with a logged model's artifacts; None if there are none."""
    try:
        with TemporaryDirectory() as scratch:
            fetched = get_artifact_repository(location).download_artifacts(f"{weights}/{DIGESTS_FILE}", scratch)
            found = decoded(Path(fetched).read_bytes(), TensorDigests)
    except (MlflowException, OSError):
        return None
    except Undecodable as error:
        raise CheckpointUnusable(
            f"{DIGESTS_FILE} of {location} cannot be understood: {error}", remedy="log that model again"
        ) from None
    return found if found.format == 1 else None


def changes_by_digests(before: TensorDigests, after: TensorDigests) -> Changes:
    """Compare two models; of chunks nothing is known."""
    status: dict[str, Status] = {}
    for name, tensor in after.tensors.items():
        was = before.find(name)
        status[name] = "new" if was is None else "unchanged" if was == tensor else "changed"
    status |= dict.fromkeys((name for name in before.tensors if after.find(name) is None), "gone")
    return changes_of(status, {name: (after.find(name) or before.tensors[name]).size for name in status})


def _in_file(path: Path) -> Iterable[tuple[str, TensorDigest]]:
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        mapped = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        header = read_header(lambda offset, length: mapped[offset : offset + length], len(mapped), str(path))
        memory = stack.enter_context(memoryview(mapped))
        return [(name, _digest(entry, memory)) for name, entry in header.entries.items()]


def _digest(entry: Entry, memory: memoryview) -> TensorDigest:
    with memory[entry.offset : entry.offset + entry.length] as content:
        digest = blake3(max_threads=blake3.AUTO).update(content).hexdigest()
    return TensorDigest(entry.dtype, entry.shape, entry.length, digest)
