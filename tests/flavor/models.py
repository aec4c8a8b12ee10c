"""Small models of the shapes that large ones have, and large ones as shapes alone."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from shardflow.flavor.tensors import TensorInfo


class Block(torch.nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = torch.nn.Linear(width, width)
        self.mlp = torch.nn.Linear(width, 2 * width)
        self.back = torch.nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = x + self.back(torch.relu(self.mlp(self.self_attn(x))))
        return made


class Net(torch.nn.Module):
    """An embedding, blocks and a head, which may be the embedding once more."""

    def __init__(self, width: int = 64, blocks: int = 3, words: int = 100, tied: bool = False) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(words, width)
        self.layers = torch.nn.ModuleList(Block(width) for _ in range(blocks))
        self.lm_head = torch.nn.Linear(width, words, bias=False)
        if tied:
            self.lm_head.weight = self.embed.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(x.long())
        for layer in self.layers:
            hidden = layer(hidden)
        made: torch.Tensor = self.lm_head(hidden)
        return made


class Scaled(torch.nn.Module):
    """Has a buffer that is not stored, and one that is."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(width, width)
        self.register_buffer("steps", torch.arange(width), persistent=False)
        self.register_buffer("count", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.linear(x) * self.steps + self.count
        return made


class TwoInputs(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": self.linear(left + right), "difference": self.linear(left - right)}


def make_net(width: int = 64, blocks: int = 3, tied: bool = False) -> Net:
    return Net(width, blocks, tied=tied)


def anything(command: str) -> object:
    """What no one should call without being asked: it does not say what it returns."""
    raise AssertionError(command)


NET = "flavor.models:Net"


def net(seed: int = 0, **arguments: int | bool) -> Net:
    torch.manual_seed(seed)
    return make_net(**arguments)  # type: ignore[arg-type]


def same(left: torch.nn.Module, right: torch.nn.Module) -> bool:
    mine, theirs = left.state_dict(), right.state_dict()
    return mine.keys() == theirs.keys() and all(
        mine[name].dtype == theirs[name].dtype and torch.equal(mine[name], theirs[name]) for name in mine
    )


def same_tensors(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def transformer(
    blocks: int, width: int, inner: int, words: int, heads_width: int | None = None
) -> Iterator[TensorInfo]:
    """The tensors of a language model in bfloat16, as their shapes."""
    kv = heads_width or width
    yield TensorInfo("model.embed_tokens.weight", "BF16", (words, width))
    for number in range(blocks):
        block = f"model.layers.{number}"
        for name, rows in (("q", width), ("k", kv), ("v", kv), ("o", width)):
            yield TensorInfo(f"{block}.self_attn.{name}_proj.weight", "BF16", (rows, width))
        for name, rows, columns in (("gate", inner, width), ("up", inner, width), ("down", width, inner)):
            yield TensorInfo(f"{block}.mlp.{name}_proj.weight", "BF16", (rows, columns))
        yield TensorInfo(f"{block}.input_layernorm.weight", "BF16", (width,))
        yield TensorInfo(f"{block}.post_attention_layernorm.weight", "BF16", (width,))
    yield TensorInfo("model.norm.weight", "BF16", (width,))
    yield TensorInfo("lm_head.weight", "BF16", (words, width))
