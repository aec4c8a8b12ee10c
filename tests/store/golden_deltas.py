"""A second golden store, of versions of a model: `python -m store.golden_deltas DIRECTORY` in `tests/` writes one.

What lies in `golden_deltas/` is never written again: it stands for all versions that were ever stored as deltas.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from blake3 import blake3

from delta.models import Model, as_file, rounded
from shardflow.dtype import DType
from shardflow.store.config import Cutting, Settings
from shardflow.store.store import Store

GOLDEN = Path(__file__).parent / "golden_deltas"
SETTINGS = Settings(
    pack_bytes=32 << 10,
    chunk_bytes=16 << 10,
    inline_bytes=1 << 10,
    cutting=Cutting(minimum=512, mean=2048, maximum=8192),
)
SHAPES = {
    "layers.0.attention.weight": (160, 224),
    "layers.0.mlp.weight": (16, 96),
    "layers.0.norm.weight": (128,),
}


def versions() -> dict[str, tuple[bytes, str | None]]:
    """Files by their paths, and what each is stored against: a chain of two deltas, a merge, casts both ways."""
    rng = np.random.default_rng(0)
    first: Model = {name: (rng.standard_normal(shape) * 0.04).astype("<f4") for name, shape in SHAPES.items()}
    first = rounded(first, DType.BF16)
    trained = {name: values + _noise(rng, values, 4e-5) for name, values in first.items()}
    later = {name: values + _noise(rng, values, 4e-5) for name, values in trained.items()}
    left, right = (rng.standard_normal(shape) * 0.03 for shape in ((160, 3), (3, 224)))
    name = "layers.0.attention.weight"
    adapted = first | {name: first[name] + (left @ right).astype("<f4")}
    decayed = {name: values * np.float32(1 - 2e-5) for name, values in first.items()}
    return {
        "first/model.safetensors": (as_file(first, DType.BF16), None),
        "trained/model.safetensors": (as_file(trained, DType.BF16), "first"),
        "later/model.safetensors": (as_file(later, DType.BF16), "trained"),
        "merged/model.safetensors": (as_file(adapted, DType.BF16), "first"),
        "wide/model.safetensors": (as_file(first), "first"),
        "decayed/model.safetensors": (as_file(decayed), "wide"),
    }


def _noise(rng: np.random.Generator, like: np.ndarray, rate: float) -> np.ndarray:
    return (rng.standard_normal(like.shape) * rate).astype("<f4")


def main() -> None:
    target, content = Path(sys.argv[1]), {}
    with tempfile.TemporaryDirectory() as place:
        os.environ["SHARDFLOW_STATE"] = f"{place}/state"
        store = Store.init(str(target / "store"), SETTINGS)
        for path, (file, base) in versions().items():
            (Path(place) / "file").write_bytes(file)
            store.put(Path(place) / "file", path, base=base)
            content[path] = [len(file), blake3(file).hexdigest()]
    shutil.rmtree(target / "store/.incoming", ignore_errors=True)
    (target / "content.json").write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
