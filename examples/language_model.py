"""A small language model that writes one character after the other, and its training: seconds on two cores.

What it learns from is the reference of the Python language, which every Python brings with it.
"""

from __future__ import annotations

import math
from pydoc_data import topics

import torch
from torch import Tensor, nn

LENGTH = 48  # characters that the model sees at once
BATCH = 8


class CharacterModel(nn.Module):
    """Transformer blocks between an embedding of characters and a guess of the next one."""

    def __init__(self, characters: int = 128, width: int = 256, blocks: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.position = nn.Parameter(torch.randn(LENGTH, width) / math.sqrt(width))
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, blocks, enable_nested_tensor=False)
        self.head = nn.Linear(width, characters)

    def forward(self, text: Tensor) -> Tensor:
        length = text.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        hidden = self.embedding(text) + self.position[:length]
        guesses: Tensor = self.head(self.blocks(hidden, mask=mask, is_causal=True))
        return guesses


def train(model: CharacterModel, steps: int, rate: float, part: nn.Module | None = None) -> None:
    """Train a model, or only a part of it, for some steps."""
    text = _text()
    model.requires_grad_(part is None)
    trained = (part or model).requires_grad_(True)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        _loss(model, text, torch.randint(len(text) - LENGTH - 1, (BATCH,))).backward()
        optimizer.step()


@torch.no_grad()
def loss_of(model: CharacterModel) -> float:
    """How well a model guesses at places that are the same each time."""
    text = _text()
    return _loss(model, text, torch.arange(0, len(text) - LENGTH - 1, len(text) // 100)).item()


def _loss(model: CharacterModel, text: Tensor, starts: Tensor) -> Tensor:
    sample = torch.stack([text[start : start + LENGTH + 1] for start in starts])
    guesses = model(sample[:, :-1])
    return nn.functional.cross_entropy(guesses.flatten(0, 1), sample[:, 1:].flatten())


def _text() -> Tensor:
    """The reference as numbers of ASCII characters."""
    return torch.tensor([code for code in "\n".join(topics.topics.values()).encode() if code < 128])
