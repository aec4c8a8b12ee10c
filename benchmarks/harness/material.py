"""Data to measure with: random bytes that nothing can compress, changed in places, and many small files."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from blake3 import blake3

PIECE = 16 << 20


class Noise:
    """Random bytes, the same ones for a seed each time, some gigabytes a second."""

    def __init__(self, seed: int) -> None:
        self._source = np.random.SFC64(seed)

    def take(self, size: int) -> bytes:
        words: bytes = self._source.random_raw(-(-size // 8)).tobytes()
        return words[:size]

    def pieces(self, size: int) -> Iterator[bytes]:
        while size > 0:
            yield self.take(min(size, PIECE))
            size -= PIECE


def random_file(path: Path, size: int, seed: int = 1) -> Path:
    """A file of random bytes, every one of them on the disk."""
    with path.open("wb") as file:
        for piece in Noise(seed).pieces(size):
            file.write(piece)
    return path


def replace_run(path: Path, start: int, data: bytes) -> None:
    """Overwrite one run of a file."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def with_insertion(source: Path, path: Path, start: int, data: bytes) -> Path:
    """A copy of a file that has `data` inserted at `start`."""
    with source.open("rb") as whole, path.open("wb") as file:
        for left in range(start, 0, -PIECE):
            file.write(whole.read(min(PIECE, left)))
        file.write(data)
        shutil.copyfileobj(whole, file, PIECE)
    return path


def small_files(directory: Path, count: int, smallest: int, largest: int, seed: int = 1) -> int:
    """Files of random bytes in one directory, their sizes spread evenly over the magnitudes; returns their total."""
    directory.mkdir()
    noise, rng = Noise(seed), np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(math.log(smallest), math.log(largest), count)).astype(int)
    for number, size in enumerate(sizes.tolist()):
        (directory / f"{number:05d}.bin").write_bytes(noise.take(size))
    return int(sizes.sum())


def digest(path: Path) -> str:
    """BLAKE3 of a file."""
    return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest() if path.stat().st_size else ""


def digests(directory: Path) -> dict[str, str]:
    """BLAKE3 of every file below a directory, by relative path."""
    return {str(path.relative_to(directory)): digest(path) for path in directory.rglob("*") if path.is_file()}


def same(found: object, wanted: object, what: str) -> None:
    """Ends the benchmark if what came back is not what was stored."""
    if found != wanted:
        raise SystemExit(f"{what}: what came back differs from what was stored")
