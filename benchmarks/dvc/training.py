"""A small language model that is really trained, so that its checkpoints differ as those of a training do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

HEADS = 12


@dataclass(frozen=True, slots=True)
class Shape:
    """As LLaMA's: no biases, norms before, a gated feed-forward network."""

    width: int
    inner: int
    layers: int
    vocabulary: int

    @classmethod
    def of_bytes(cls, size: int, item: int) -> Shape:
        """The shape whose parameters take about so many bytes."""
        width, inner, vocabulary = (768, 2048, 16_384) if size > (32 << 20) else (96, 256, 1024)
        layer = 4 * width * width + 3 * width * inner
        layers = max(1, round((size / item - 2 * vocabulary * width) / layer))
        return cls(width, inner, layers, vocabulary)


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width)
        self.qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        self.out = nn.Linear(shape.width, shape.width, bias=False)
        self.mlp_norm = nn.RMSNorm(shape.width)
        self.gate = nn.Linear(shape.width, shape.inner, bias=False)
        self.up = nn.Linear(shape.width, shape.inner, bias=False)
        self.down = nn.Linear(shape.inner, shape.width, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        batch, length, width = hidden.shape
        heads = self.qkv(self.attention_norm(hidden)).view(batch, length, 3, HEADS, width // HEADS)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        hidden = hidden + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        normed = self.mlp_norm(hidden)
        return hidden + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class Model(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width)
        self.head = nn.Linear(shape.width, shape.vocabulary, bias=False)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden)
        logits: torch.Tensor = self.head(self.norm(hidden))
        return logits


class Training:
    """Steps of AdamW on text of a made-up language; optimizer states have the type of the weights."""

    def __init__(self, model_bytes: int, dtype: torch.dtype, learning_rate: float, tokens: int) -> None:
        torch.manual_seed(5)
        self.shape = Shape.of_bytes(model_bytes, dtype.itemsize)
        self.model = Model(self.shape).to(dtype)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=learning_rate, foreach=True)
        self._text = _text(self.shape.vocabulary, tokens)

    def step(self) -> float:
        tokens = next(self._text)
        logits = self.model(tokens[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    @property
    def model_bytes(self) -> int:
        return sum(weight.nbytes for weight in self.model.parameters())


def _text(vocabulary: int, tokens: int) -> Iterator[torch.Tensor]:
    """Words by Zipf's law, half of them given by the word before."""
    random = torch.Generator().manual_seed(11)
    common = 1.0 / torch.arange(1, vocabulary + 1)
    follows = torch.randperm(vocabulary, generator=random)
    while True:
        words = torch.multinomial(common, tokens + 1, replacement=True, generator=random)
        for place in range(1, tokens + 1):
            if torch.rand((), generator=random) < 0.5:
                words[place] = follows[words[place - 1]]
        yield words.view(1, -1)
