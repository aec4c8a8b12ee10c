"""States with the shapes of a LLaMA, of any size, as files that every measured process reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, NOISE, LATER = "weights.safetensors", "noise.safetensors", "later.safetensors"
STEPS_BETWEEN = 10
RATE = 1e-6
_SPREAD = 0.02
_SMALL = 64 << 20
Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Llama:
    """What determines the shapes."""

    width: int
    inner: int
    layers: int
    vocabulary: int = 32000


NAMED = {
    "1b": Llama(2048, 5632, 22),
    "3b": Llama(3200, 8640, 26),  # OpenLLaMA-3B
    "7b": Llama(4096, 11008, 32),
}


def of_bytes(length: int) -> Llama:
    """One whose weights take about so many bytes as bfloat16."""
    wide = Llama(2048, 5632, 1) if length >= _SMALL else Llama(256, 704, 1, 1000)
    one, two = size_of(wide), size_of(Llama(wide.width, wide.inner, 2, wide.vocabulary))
    return Llama(wide.width, wide.inner, max(1, 1 + round((length - one) / (two - one))), wide.vocabulary)


def shapes_of(llama: Llama) -> Shapes:
    first, last = _around(llama)
    layers = {
        f"model.layers.{number}.{name}": shape
        for number in range(llama.layers)
        for name, shape in _in_layer(llama).items()
    }
    return {**first, **layers, **last}


def size_of(llama: Llama) -> int:
    first, last = _around(llama)
    return _bytes_of(first) + llama.layers * _bytes_of(_in_layer(llama)) + _bytes_of(last)


def _bytes_of(shapes: Shapes) -> int:
    return 2 * sum(prod(shape) for shape in shapes.values())


def _around(llama: Llama) -> tuple[Shapes, Shapes]:
    """What comes before the layers, and after them."""
    table = llama.vocabulary, llama.width
    return {"model.embed_tokens.weight": table}, {"model.norm.weight": (llama.width,), "lm_head.weight": table}


def _in_layer(llama: Llama) -> Shapes:
    width, inner = llama.width, llama.inner
    layer: Shapes = {f"self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
    layer |= {"mlp.gate_proj.weight": (inner, width), "mlp.up_proj.weight": (inner, width)}
    layer |= {"mlp.down_proj.weight": (width, inner)}
    return layer | {"input_layernorm.weight": (width,), "post_attention_layernorm.weight": (width,)}


def prepare(directory: Path, llama: Llama) -> None:
    """Write weights as bfloat16, the same some steps of training on, and shapes filled with what nothing compresses."""
    torch.manual_seed(0)
    state = {
        name: torch.empty(shape, dtype=torch.bfloat16).normal_(0, _SPREAD) for name, shape in shapes_of(llama).items()
    }
    save_file(state, directory / WEIGHTS)
    for name, tensor in state.items():
        state[name] = trained_on(tensor)
    save_file(state, directory / LATER)
    for tensor in state.values():
        tensor.view(torch.int16).random_(-(1 << 15), 1 << 15)
    save_file(state, directory / NOISE)


def trained_on(tensor: torch.Tensor) -> torch.Tensor:
    """Where a weight is some steps on: kept in float32 by the optimizer, and moved by a step of AdamW's size each.

    Where a weight lies between two values of bfloat16 is unknown to who has only those, so it is anywhere.
    """
    made = torch.empty_like(tensor)
    for rows, into in zip(_pieces(tensor), _pieces(made), strict=True):
        exact = rows.float()
        gap = torch.ldexp(torch.ones_like(exact), torch.frexp(exact).exponent - 8)
        exact += (torch.rand_like(exact) - 0.5) * gap
        into.copy_(exact + torch.randn_like(exact) * (RATE * STEPS_BETWEEN**0.5))
    return made


def read(directory: Path, file: str) -> dict[str, torch.Tensor]:
    """A state in memory of its own."""
    return {name: tensor.clone() for name, tensor in load_file(directory / file).items()}


def share_changed(directory: Path) -> float:
    """How many of the weights are others some steps on, of a part of them."""
    before, after = load_file(directory / WEIGHTS), load_file(directory / LATER)
    names = sorted(before)[:4]
    changed = sum(int((before[name] != after[name]).sum()) for name in names)
    return changed / sum(before[name].numel() for name in names)


def _pieces(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    yield from tensor.view(-1).split(1 << 22)
