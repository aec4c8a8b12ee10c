"""A model with the shape of a LLaMA and the size that is asked for, made once and read by every rival."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WIDTH, INNER, HEADS, VOCABULARY = 2048, 5632, 16, 32000
OUTSIDE = 2 * VOCABULARY * WIDTH  # embeddings and head
EACH_LAYER = 4 * WIDTH * WIDTH + 3 * WIDTH * INNER
WEIGHTS, NOISE, OF_TORCH = "weights.safetensors", "noise.safetensors", "weights.pt"


def prepare(directory: Path, length: int) -> int:
    """Write the weights, as bfloat16, in two formats, and the same shapes filled with bits that nothing compresses."""
    directory.mkdir(parents=True, exist_ok=True)
    config = _config(length)
    (directory / "config.json").write_text(json.dumps(config))
    state = {
        name: torch.empty(tensor.shape, dtype=torch.bfloat16).normal_(0, 0.02)
        for name, tensor in _empty(config).state_dict().items()
    }
    save_file(state, directory / WEIGHTS)
    torch.save(state, directory / OF_TORCH)
    for tensor in state.values():
        tensor.view(torch.int16).random_(-(1 << 15), 1 << 15)
    save_file(state, directory / NOISE)
    return sum(tensor.nbytes for tensor in state.values())


def state_of(directory: Path, file: str = WEIGHTS) -> dict[str, torch.Tensor]:
    """The weights, in memory of their own."""
    return {name: tensor.clone() for name, tensor in load_file(directory / file).items()}


def module_of(directory: Path, file: str = WEIGHTS) -> Any:
    """The module with these weights."""
    module = _empty(json.loads((directory / "config.json").read_text()))
    module.load_state_dict(state_of(directory, file), assign=True)
    return module.eval()


def tiny_module() -> Any:
    """A small one of the same kind, for warming up."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM(_as_config({"layers": 1, "width": 64, "inner": 128, "heads": 4, "vocabulary": 64})).eval()


def tokenizer() -> Any:
    """A tokenizer of a few words, which MLflow's flavor for transformers wants to have."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a")))


def _config(length: int) -> dict[str, int]:
    if length < 64 << 20:
        return {"layers": 2, "width": 256, "inner": 512, "heads": 4, "vocabulary": 1000}
    layers = max(1, round((length / 2 - OUTSIDE) / EACH_LAYER))
    return {"layers": layers, "width": WIDTH, "inner": INNER, "heads": HEADS, "vocabulary": VOCABULARY}


def _as_config(sizes: dict[str, int]) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=sizes["width"],
        intermediate_size=sizes["inner"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["heads"],
        vocab_size=sizes["vocabulary"],
        tie_word_embeddings=False,
        dtype="bfloat16",
    )


def _empty(sizes: dict[str, int]) -> Any:
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(_as_config(sizes))
