"""Models that lie outside of a store, and what comes back out of one."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from flavor.models import NET, net
from shardflow import flavor
from shardflow.store.store import Store


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """A model of 2 MB, and later states of it: a little training apart."""
    torch.manual_seed(1)
    tensors = {f"layers.{n}.weight": torch.randn(256, 256) for n in range(8)}
    torch.manual_seed(seed)
    return {name: tensor + 1e-5 * seed * torch.randn_like(tensor) for name, tensor in tensors.items()}


def checkpoints(directory: Path, steps: tuple[int, ...] = (2, 10, 100)) -> Path:
    for step in steps:
        (directory / f"checkpoint-{step}").mkdir(parents=True)
        save_file(weights(step), directory / f"checkpoint-{step}" / "model.safetensors")
        (directory / f"checkpoint-{step}" / "config.json").write_text(f'{{"step": {step}}}')
    return directory


def tree(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def fetched(store: Store, path: str, target: Path) -> dict[str, bytes]:
    store.get(path, target)
    return tree(target)


def log_three(name: str) -> None:
    for seed in range(3):
        flavor.log_model(net(seed), name="net", factory=NET, registered_model_name=name, tags={"seed": str(seed)})


def done_id(version: object) -> str:
    source = str(getattr(version, "source", ""))
    return source.removeprefix("models:/") if source.startswith("models:/m-") else source.split("/")[-2]


def coded_against(store: Store, later: str, earlier: str) -> int:
    """How many chunks of a file are coded against those of another."""
    table, other = store.manifest(later).table, store.manifest(earlier).table
    theirs = {other.id(row) for row in range(len(other))}
    return sum(any(table.id(base) in theirs for base in table.bases(row)) for row in range(len(table)))
