"""A model in a store that is to be divided into other files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from shardflow import flavor
from shardflow.store.store import Store


def weights(blocks: int = 8) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    tensors = {f"model.layers.{n}.mlp.weight": torch.randn(256, 160) for n in range(blocks)}
    tensors |= {f"model.layers.{n}.self_attn.q_proj.weight": torch.randn(128, 160) for n in range(blocks)}
    tensors |= {f"model.layers.{n}.norm.weight": torch.randn(160) for n in range(blocks)}
    return {"model.embed_tokens.weight": torch.randn(500, 160), **tensors, "lm_head.weight": torch.randn(500, 160)}


def put_folder(store: Store, directory: Path, tensors: dict[str, torch.Tensor], path: str = "llama") -> str:
    """A Hugging Face folder in one file, put in a store as any directory is."""
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt", "made": "by hand"})
    (directory / "config.json").write_text("{}")
    store.put(directory, path)
    return str(store.url.joined(path))


def names(store: Store, path: str) -> set[str]:
    return {entry.path.rpartition("/")[2] for entry in store.ls(path)}


def equal(url: str, tensors: dict[str, torch.Tensor]) -> bool:
    back = flavor.load_state_dict(url)
    return back.keys() == tensors.keys() and all(torch.equal(back[name], tensors[name]) for name in tensors)
