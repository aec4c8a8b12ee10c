"""The content of the golden store, and how it was written: `python -m store.golden DIRECTORY` in `tests/` writes one.

What lies in `golden/` is never written again: it stands for all stores there are. A new format gets one of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
import tempfile
from pathlib import Path

import zstandard
from blake3 import blake3

from shardflow.store.config import Cutting, Settings
from shardflow.store.store import Store

GOLDEN = Path(__file__).parent / "golden"
SETTINGS = Settings(
    pack_bytes=32 << 10,
    chunk_bytes=8 << 10,
    inline_bytes=1 << 10,
    cutting=Cutting(minimum=512, mean=2048, maximum=8192),
)


def noise(name: str, size: int) -> bytes:
    return blake3(name.encode()).digest(size)


def text(lines: int) -> bytes:
    return b"".join(b"step %06d loss %s\n" % (line, noise(str(line), 3).hex().encode()) for line in range(lines))


def floats(name: str, count: int) -> bytes:
    """As weights are: signs and mantissas at random, few exponents."""
    words = struct.unpack(f"<{count}I", noise(name, 4 * count))
    return struct.pack(f"<{count}I", *[word & 0x807FFFFF | (118 + word % 7) << 23 for word in words])


def halved(data: bytes) -> bytes:
    """float32 as bfloat16."""
    return b"".join(data[start + 2 : start + 4] for start in range(0, len(data), 4))


def safetensors(**tensors: tuple[str, list[int], bytes]) -> bytes:
    header, start = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(data)]}
        start += len(data)
    packed = json.dumps(header, separators=(",", ":")).encode()
    return struct.pack("<Q", len(packed)) + packed + b"".join(data for _, _, data in tensors.values())


def files() -> dict[str, bytes]:
    """Every kind of file, by its path."""
    weights = safetensors(
        embedding=("F32", [64, 64], floats("embedding", 64 * 64)),
        norm=("BF16", [64], halved(floats("norm", 64))),
        bias=("BF16", [64], halved(floats("bias", 64))),
        output=("BF16", [96, 64], halved(floats("output", 96 * 64))),
        steps=("I64", [2000], struct.pack("<2000q", *range(-1000, 1000))),
        table=("U8", [200, 10], bytes(value % 7 for value in range(2000))),
    )
    return {
        "model/MLmodel": b"flavors: {}\n",
        "model/weights.safetensors": weights,
        "model/copy.safetensors": weights,
        "notes/log.txt": text(600),
        "notes/short.txt": b"one line",
        "notes/empty": b"",
        "noise.bin": noise("noise", 5000),
        "large/repeated.bin": noise("a", 40) * 28_000,
        "large/zeros.safetensors": safetensors(zeros=("F32", [512, 512], bytes(1 << 20))),
        os.fsdecode(b"names/50% of \xff\n") + "é漢": b"any name",
    }


EMPTY_DIRECTORY = "nothing/here"


def write(store: Store) -> None:
    """Put everything, as a user would."""
    with tempfile.TemporaryDirectory() as place:
        source = Path(place)
        for path, content in files().items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_bytes(content)
        (source / EMPTY_DIRECTORY).mkdir(parents=True)
        store.put(source)


def description() -> dict[str, object]:
    """What was put in, to be compared with what comes out."""
    return {
        "zstd": list(zstandard.ZSTD_VERSION),
        "directory": EMPTY_DIRECTORY,
        "files": {
            os.fsencode(path).decode("latin-1"): [len(content), blake3(content).hexdigest()]
            for path, content in files().items()
        },
    }


def main() -> None:
    target = Path(sys.argv[1])
    write(Store.init(str(target / "store"), SETTINGS))
    shutil.rmtree(target / "store/.incoming")
    (target / "content.json").write_text(json.dumps(description(), indent=2) + "\n")


if __name__ == "__main__":
    main()
