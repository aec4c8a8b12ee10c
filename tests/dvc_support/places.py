"""Places in stores, as remotes of projects, and files to put there."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dvc_support.commands import Project, project, remote_options
from shardflow.store.store import Store


@dataclass(frozen=True, slots=True)
class Place:
    """Where a remote is, and what reaches it."""

    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    def project(self, root: Path) -> Project:
        """A new project with this remote."""
        return project(root, self.url, remote_options(self.options))

    @property
    def store(self) -> Store:
        """The store, once something has been pushed."""
        return Store.find(self.url, self.options)[0]

    @property
    def files(self) -> list[str]:
        """Paths in the store."""
        return [entry.path for entry in self.store.ls(recursive=True)]

    @property
    def packed(self) -> int:
        """Bytes of all packs."""
        return sum(info.size for info in self.store.transport.list("packs/"))


def tensors(seed: int, changed: int = 0) -> bytes:
    """A safetensors file of 4 MiB in bfloat16; with `changed` numbers other than those of the seed."""
    values = np.random.default_rng(seed).normal(size=(1024, 2048)).astype(np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    bits.reshape(-1)[:changed] ^= 1
    header = json.dumps({"w": {"dtype": "BF16", "shape": [1024, 2048], "data_offsets": [0, bits.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + bits.tobytes()
