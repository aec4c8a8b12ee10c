"""Where in a model a tensor belongs, told from its name: which block, and which part of it."""

from __future__ import annotations

import re
from enum import Enum

_ATTENTION = re.compile(
    r"(^|[._])(self_attn|cross_attn|attn|attention|attentions|[A-Za-z]*Attention|qkv|[qkvo]_proj|[qkv]_norm)([._]|\d|$)"
)
_EMBEDDING = re.compile(
    r"(^|[._])(embed(?!_out)|embeds|embedding|embeddings|embd|wte|wpe|tokens|cls_token|mask_token|shared(?=\.weight$))([._]|$)"
)
_HEAD = re.compile(
    r"(^|[._])(lm_head|head|heads|score|classifier|output|outputs|cls|embed_out|proj_out|vocab_projector)([._]|$)"
)


class Part(Enum):
    """What is read apart from the rest; the order is that of the shards."""

    EMBEDDING = 0
    ATTENTION = 1
    OTHER = 2
    HEAD = 3


def block_of(name: str) -> str:
    """The transformer block of a tensor, such as `model.layers.7`; empty for what is in none."""
    steps = name.split(".")
    for place, step in enumerate(steps[:-1]):
        if step.isdigit():
            return ".".join(steps[: place + 1])
    return ""


def layer_of(name: str) -> str:
    """The block of a tensor, or the module that owns it where there is no block, or the tensor itself."""
    return block_of(name) or name.rpartition(".")[0] or name


def part_of(name: str) -> Part:
    """Attention counts within blocks, embeddings and heads outside of them."""
    if block_of(name):
        return Part.ATTENTION if _ATTENTION.search(name) else Part.OTHER
    if _EMBEDDING.search(name):
        return Part.EMBEDDING
    return Part.HEAD if _HEAD.search(name) else Part.OTHER
