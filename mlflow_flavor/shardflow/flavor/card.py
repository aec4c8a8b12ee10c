"""The model card: what a logged model is made of, for people who look at it in MLflow's pages."""

from __future__ import annotations

from dataclasses import dataclass

from shardflow.flavor.parts import block_of
from shardflow.flavor.plans import Plan
from shardflow.flavor.writing import Written

CARD_FILE = "MODEL_CARD.md"
_UNITS = ("B", "KB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Description:
    """What a card tells."""

    plan: Plan
    written: Written
    directory: str  # of the weights
    rebuilt: str
    parent: str | None = None


def card_of(about: Description) -> str:
    """The card as Markdown."""
    plan, written = about.plan, about.written
    tensors = [tensor for shard in plan.shards for tensor in shard.tensors]
    types = dict.fromkeys(tensor.dtype for tensor in tensors)
    blocks = {block_of(tensor.name) for tensor in tensors} - {""}
    facts = [
        ("Size", f"{in_units(plan.size)} ({plan.size:,} bytes of weights)"),
        ("Tensors", f"{len(tensors):,} of type {', '.join(types)}{_tied(len(plan.aliases))}"),
        ("Blocks", f"{len(blocks)}" if blocks else "none"),
        ("Files", f"{len(plan.shards)}, sharded: {plan.method}"),
        ("Rebuilt from", about.rebuilt),
        *([("Parent", f"`{about.parent}`")] if about.parent else []),
        *_sent(written),
    ]
    lines = ["# Model card", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts), ""]
    lines += ["## Files", "", "| file | size | tensors | BLAKE3 |", "|---|--:|--:|---|"]
    for shard, file in zip(plan.shards, written.files, strict=True):
        where = f"{about.directory}/{file.name}"
        lines.append(f"| `{where}` | {in_units(file.size)} | {len(shard.tensors):,} | `{file.digest}` |")
    return "\n".join([*lines, ""])


def in_units(size: int) -> str:
    """Bytes as people read them, decimal."""
    amount, unit = float(size), 0
    while amount >= 999.95 and unit + 1 < len(_UNITS):
        amount, unit = amount / 1000, unit + 1
    return f"{size} B" if unit == 0 else f"{amount:.1f} {_UNITS[unit]}"


def codecs_of(written: Written) -> str:
    """How the weights are coded, such as `12 planes, 3 delta`."""
    ordered = sorted(written.codecs.items(), key=lambda item: -item[1])
    return ", ".join(f"{count:,} {codec}" for codec, count in ordered)


def _tied(count: int) -> str:
    return f", and {count} more name{'s' * (count > 1)} for some of them" if count else ""


def _sent(written: Written) -> list[tuple[str, str]]:
    if written.sent is None or written.reused is None:
        return []
    total = sum(file.size for file in written.files) or 1
    share = f"{written.sent / total:.1%} of the size"
    return [
        ("Sent", f"{in_units(written.sent)}, {share}"),
        ("In the store before", f"{in_units(written.reused)}, {written.reused / total:.1%} of the size"),
        ("Chunks and their bases", codecs_of(written) or "none"),
    ]
