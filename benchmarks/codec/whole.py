"""What other tools make of the same versions: ZipNN, zstd, zstd --patch-from, xdelta3, BitX and hf-xet."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import peers

from shardflow.dtype import DType

if TYPE_CHECKING:
    from deltas import Case

ZIPNN_DTYPES = {DType.BF16: "bfloat16", DType.F16: "float16", DType.F32: "float32"}
PATCHES = {
    "zstd --patch-from": ("zstd", "-q", "-f", "-3", "--long=31", "--patch-from={old}", "{new}", "-o", "{out}"),
    "xdelta3": ("xdelta3", "-f", "-e", "-B", str(1 << 30), "-s", "{old}", "{new}", "{out}"),
}


def missing() -> list[str]:
    """Peers that are not installed, and so are not measured."""
    programs = [name for name in ("zstd", "xdelta3") if shutil.which(name) is None]
    return programs + [name for name in ("zipnn", "hf_xet") if not find_spec(name)]


def sizes(case: Case) -> dict[str, int]:
    """In bytes, by the name of the peer."""
    if not case.new:
        return {}
    found = {"zstd-3": sum(peers.zstd(tensor.words) for tensor in case.new)}
    if find_spec("zipnn"):
        packed = [zipnn(tensor.words.tobytes(), tensor.dtype) for tensor in case.new]
        if all(packed):
            found["ZipNN"] = sum(packed)
    pairs = list(zip(case.new, case.old, strict=True)) if case.old else []
    if pairs and all(new.dtype is old.dtype for new, old in pairs):
        found["BitX"] = sum(peers.bitx(new.words.ravel(), old.words.ravel()) for new, old in pairs)
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for name, tensors in (("old", case.old), ("new", case.new)):
            (home / name).write_bytes(b"".join(tensor.words.tobytes() for tensor in tensors))
        if pairs:
            found |= patches(home)
        if find_spec("hf_xet"):
            found["hf-xet"] = xet(home)
    return found


def zipnn(data: bytes, dtype: DType) -> int:
    """ZipNN's size, proven by decompressing it; 0 for what it has no method for."""
    if dtype not in ZIPNN_DTYPES:
        return 0
    packer = packer_for(dtype)
    packed = packer.compress(bytearray(data))
    if bytes(packer.decompress(packed)) != data:
        raise SystemExit("ZipNN gave other bytes back")
    return len(packed)


def packer_for(dtype: DType) -> Any:
    from zipnn import ZipNN

    return ZipNN(bytearray_dtype=ZIPNN_DTYPES[dtype], threads=1)


def patches(home: Path) -> dict[str, int]:
    """What leads from the file `old` to the file `new`, as tools write it that know nothing of numbers."""
    found = {}
    for name, command in PATCHES.items():
        if shutil.which(command[0]):
            files = {file: str(home / file) for file in ("old", "new", "out")}
            subprocess.run([part.format(**files) for part in command], check=True, capture_output=True)
            found[name] = (home / "out").stat().st_size
    return found


def xet(home: Path) -> int:
    """What hf-xet adds to a store on the local disk for the file `new` when it has `old`; in a process of its own."""
    environment = os.environ | {"HF_HOME": str(home / "cache"), "HF_XET_CACHE": str(home / "cache" / "xet")}
    command = [sys.executable, __file__, *(str(home / name) for name in ("store", "old", "new"))]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    grown: list[int] = json.loads(done.stdout.splitlines()[-1])
    return grown[-1]


def _uploaded(store: str, *files: str) -> list[int]:
    """What each file adds, in packed and compressed chunks."""
    import hf_xet

    session, sizes = hf_xet.XetSession(), [0]
    for file in files:
        # A directory takes its server's place: chunks are cut, compressed and packed as for the server.
        with session.new_upload_commit(endpoint=f"local://{store}") as commit:
            commit.start_upload_file(file)
        sizes.append(sum(pack.stat().st_size for pack in Path(store).glob("xet/xorbs/xorbs/*")))
    return [after - before for before, after in pairwise(sizes)]


if __name__ == "__main__":
    print(json.dumps(_uploaded(*sys.argv[1:])))
