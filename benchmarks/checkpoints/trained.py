"""A model with the shape of a LLaMA that is really trained: AdamW steps at a small rate, on gradients made up.

What a checkpoint saves depends on which of its bits an optimizer moved, so three ways to train are told apart. The
gradients are noise with a mean of its own for each weight: steps go in a direction, as those of a training do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

WIDTH, INNER, VOCABULARY, RANK = 2048, 5632, 32000, 16
RATE = 1e-5
STEADY = 0.3  # the mean of a gradient beside its noise
NOISE_WORDS = 1 << 24


def shapes(length: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensors of about so many bytes of bfloat16, layer by layer."""
    width, inner, words = (WIDTH, INNER, VOCABULARY) if length >= 256 << 20 else (256, 704, 1000)
    layer: dict[str, tuple[int, ...]] = {
        **{f"self_attn.{name}_proj.weight": (width, width) for name in "qkvo"},
        **{f"mlp.{name}_proj.weight": (inner, width) for name in ("gate", "up")},
        "mlp.down_proj.weight": (width, inner),
        "input_layernorm.weight": (width,),
    }
    yield "model.embed_tokens.weight", (words, width)
    made, number, each = 2 * words * width, 0, 2 * (4 * width * width + 3 * width * inner + width)
    while made + each <= length:
        yield from ((f"model.layers.{number}.{name}", shape) for name, shape in layer.items())
        made, number = made + each, number + 1


@dataclass(slots=True)
class Training:
    """The tensors of a checkpoint, and those of them that are trained, in the precision in which they are."""

    state: dict[str, torch.Tensor]
    trained: dict[str, torch.Tensor]
    optimizers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)
    noise: torch.Tensor = field(default_factory=lambda: torch.randn(NOISE_WORDS))
    done: int = 0

    @property
    def size(self) -> int:
        return sum(tensor.nbytes for tensor in self.state.values())

    def step(self, count: int) -> None:
        """So many steps of the optimizer; the checkpoint's tensors are then those after them."""
        for number, (name, weights) in enumerate(self.trained.items()):
            optimizer = self.optimizers.get(name) or self._optimizer(name, weights)
            for step in range(self.done, self.done + count):
                weights.grad = self._gradient(number, step, weights)
                optimizer.step()
            weights.grad = None
            if self.state[name] is not weights:
                self.state[name].copy_(weights)
        self.done += count

    def _optimizer(self, name: str, weights: torch.Tensor) -> torch.optim.Optimizer:
        made = torch.optim.AdamW([weights], lr=RATE, weight_decay=0.01, fused=True)
        self.optimizers[name] = made
        return made

    def _gradient(self, number: int, step: int, weights: torch.Tensor) -> torch.Tensor:
        steady = self._noise_from(number * 7919, weights.numel())
        of_step = self._noise_from(number * 104_729 + step * 1_299_709, weights.numel())
        return torch.add(of_step, steady, alpha=STEADY).to(weights.dtype).view(weights.shape)

    def _noise_from(self, start: int, count: int) -> torch.Tensor:
        if count >= NOISE_WORDS:
            return self.noise.roll(start).repeat(-(-count // NOISE_WORDS))[:count]
        start %= NOISE_WORDS - count
        return self.noise[start : start + count]


def with_master_weights(length: int) -> Training:
    """All weights are trained in float32, and saved in bfloat16: nearly every second one has moved in 10 steps."""
    state = _random(length)
    return Training(state, {name: tensor.float() for name, tensor in state.items()})


def in_bfloat16(length: int) -> Training:
    """All weights are trained as bfloat16, where small steps are rounded away from all but the smallest weights."""
    state = _random(length)
    return Training(state, dict(state))


def with_an_adapter(length: int) -> Training:
    """The weights are frozen; adapters of rank 16 for every matrix are trained: about 2 % of the bytes."""
    state = _random(length)
    adapters = {}
    for name, tensor in state.items():
        if tensor.dim() == 2 and "layers" in name:
            adapters[f"{name}.lora_A"] = torch.randn(RANK, tensor.shape[1]) * 0.02
            adapters[f"{name}.lora_B"] = torch.zeros(tensor.shape[0], RANK)
    return Training({**state, **adapters}, adapters)


WAYS = {
    "adapter": with_an_adapter,
    "bfloat16": in_bfloat16,
    "float32 master weights": with_master_weights,
}


def _random(length: int) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: torch.ones(shape, dtype=torch.bfloat16) if len(shape) == 1 else torch.randn(shape).mul_(0.02).bfloat16()
        for name, shape in shapes(length)
    }
