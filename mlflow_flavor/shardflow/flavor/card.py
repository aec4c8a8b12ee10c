"""The model card: what a logged model is made of, for people who look at it in MLflow's pages.

Those pages give the columns of a table equal widths, and wrap what is long: digests stand in a block of their own, as
`b3sum --check` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from shardflow.flavor.changes import SHARED, Changes
from shardflow.flavor.parts import block_of
from shardflow.flavor.plans import Plan
from shardflow.flavor.writing import Written

CARD_FILE = "MODEL_CARD.md"
MOST_NAMED = 12  # changed tensors
_FILES = "## Files"
_UNITS = ("B", "KB", "MB", "GB", "TB")
_IN_WORDS: Mapping[str, str] = {
    SHARED: "the same in both",
    "delta": "delta: by what differs",
    "sparse": "sparse: by the few numbers that differ",
    "lowrank": "lowrank: as a merged adapter",
    "cast": "cast: from another type, or scaled",
    "planes": "planes: by themselves",
    "zstd": "zstd: by themselves",
    "raw": "raw: as they are",
}


class NamedParent(Protocol):
    """The model that another was made from."""

    @property
    def uri(self) -> str: ...
    @property
    def named(self) -> bool:
        """Whether the user said so."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a card tells."""

    plan: Plan
    written: Written
    directory: str  # of the weights
    rebuilt: str
    parent: NamedParent | None = None
    changes: Changes | None = None
    format: str = "safetensors"


def card_of(about: Description) -> str:
    """The card as Markdown."""
    plan = about.plan
    tensors = [tensor for shard in plan.shards for tensor in shard.tensors]
    types = dict.fromkeys(tensor.dtype for tensor in tensors)
    blocks = {block_of(tensor.name) for tensor in tensors} - {""}
    facts = [
        ("Size", f"{in_units(plan.size)} ({plan.size:,} bytes)"),
        ("Tensors", f"{len(tensors):,} of type {', '.join(types)}{_tied(len(plan.aliases))}"),
        ("Blocks", f"{len(blocks)}" if blocks else "none"),
        ("Files", _files(plan) if about.format == "safetensors" else f"{len(about.written.files):,}, {about.format}"),
        ("Rebuilt from", about.rebuilt),
        *_parent(about.parent),
        *_sent(about.written),
    ]
    lines = ["# Model card", "", *_table(("Weights", ""), facts), ""]
    lines += _what_changed(about.changes)
    return "\n".join([*lines, *_table_of_files(plan, about.written, about.directory), ""])


def resharded(card: str, plan: Plan, written: Written, directory: str) -> str:
    """A card of the same model in other files: what it tells of how the model was logged stays."""
    head, heading, _ = card.partition(f"{_FILES}\n")
    if not heading:
        return card  # somebody wrote their own
    lines = [f"| Files | {_files(plan)} |" if line.startswith("| Files |") else line for line in head.splitlines()]
    return "\n".join([*lines, *_table_of_files(plan, written, directory), ""])


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


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """A table whose first column is text and whose others are numbers, unless there are only two."""
    ruler = ["---", *(["---"] if len(head) == 2 else ["--:"] * (len(head) - 1))]
    return [f"| {' | '.join(row)} |" for row in (head, tuple(ruler), *rows)]


def _tied(count: int) -> str:
    return f", and {count} more name{'s' * (count > 1)} for some of them" if count else ""


def _files(plan: Plan) -> str:
    return f"{len(plan.shards)}, sharded: {plan.method}"


def _parent(parent: NamedParent | None) -> list[tuple[str, str]]:
    if parent is None:
        return []
    return [("Parent" if parent.named else "Most like it in the store", f"`{parent.uri}`")]


def _sent(written: Written) -> list[tuple[str, str]]:
    if written.sent is None or written.reused is None:
        return []
    total = sum(file.size for file in written.files) or 1
    return [
        ("Sent to the store", f"{in_units(written.sent)}, {written.sent / total:.1%} of the size"),
        ("In the store before", f"{in_units(written.reused)}, {written.reused / total:.1%} of the size"),
        ("Chunks by encoding", codecs_of(written) or "none"),
    ]


def _what_changed(changes: Changes | None) -> list[str]:
    if changes is None:
        return []
    tensors = [(status, f"{found.count:,}", in_units(found.size)) for status, found in changes.tensors.items()]
    lines = ["## What changed", "", *_table(("tensors", "number", "bytes"), tensors), ""]
    if changes.changed:
        shown = ", ".join(f"`{name}`" for name in changes.changed[:MOST_NAMED])
        more = len(changes.changed) - MOST_NAMED
        lines += [f"Changed: {shown}{f', and {more:,} more' if more > 0 else ''}.", ""]
    if changes.chunks is None:
        return lines
    chunks = [
        (_IN_WORDS.get(kind, kind), f"{found.count:,}", in_units(found.size), in_units(found.stored))
        for kind, found in sorted(changes.chunks.items(), key=lambda item: (item[0] != SHARED, -item[1].size))
    ]
    return [*lines, *_table(("chunks", "number", "bytes", "in the store"), chunks), ""]


def _table_of_files(plan: Plan, written: Written, directory: str) -> list[str]:
    if [shard.file for shard in plan.shards] != [file.name for file in written.files]:
        return _list_of_files(written, directory)
    files = list(zip(plan.shards, written.files, strict=True))
    rows = [(f"`{file.name}`", in_units(file.size), f"{len(shard.tensors):,}") for shard, file in files]
    sums = [f"{file.digest}  {directory}/{file.name}" for _, file in files]
    digests = ["## Digests", "", "BLAKE3 of the files, as `b3sum --check` reads them:", "", "```", *sums, "```"]
    return [_FILES, "", *_table(("file", "size", "tensors"), rows), "", *digests]


def _list_of_files(written: Written, directory: str) -> list[str]:
    """Files of another format, which may be a great many; the recipe has the digests of all."""
    rows = [(f"`{directory}/{file.name}`", in_units(file.size)) for file in written.files[:MOST_NAMED]]
    more = len(written.files) - MOST_NAMED
    return [_FILES, "", *_table(("file", "size"), rows), *(["", f"And {more:,} more."] if more > 0 else [])]
