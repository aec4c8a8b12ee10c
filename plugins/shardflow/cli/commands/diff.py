"""`shardflow diff`: what differs between two versions of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.named import NamedPath, ReadPlace
from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.text import printable
from shardflow.cli.units import count, share, size

if TYPE_CHECKING:
    from shardflow.patch.comparing import Comparison, TensorChange


@click.command("diff", short_help="Compare two versions of a model, tensor by tensor.")
@click.argument("a", type=ReadPlace())
@click.argument("b", type=ReadPlace())
@click.option("--adapter", metavar="DIR", type=NamedPath(), help="The adapter, as peft saved it, that was merged.")
@click.option("--all", "everything", is_flag=True, help="List tensors that are equal, too.")
@json_option
@quiet_option
@click.pass_obj
def command(run: Run, a: str, b: str, adapter: str | None, everything: bool) -> None:
    """Compare A with the later version B: files, or directories of files, on this disk or in a store.

    For each tensor: whether it is equal, changed, added or removed, the share of its elements that changed, and the
    bytes that lead from A's to B's, with the kind of encoding that takes least.

    \b
    Examples:
      shardflow diff v1/model.safetensors v2/model.safetensors
      shardflow diff shardflow://s3/bucket/models/llama/v1 out/checkpoint-500 --json
    """
    from shardflow.patch.comparing import compare

    found = compare(a, b, adapter)
    run.give({"a": a, "b": b, **found.as_dict()}, _lines(found, everything=everything))


def _lines(found: Comparison, *, everything: bool) -> Iterator[str]:
    rows = [_row(tensor) for tensor in found.tensors if everything or tensor.status != "equal" or tensor.was]
    rows += [
        (printable(name), status, "", "", "", "") for name, status in found.other_files.items() if status != "equal"
    ]
    if rows:
        yield from _table([("tensor", "", "elements changed", "size", "delta", "kind"), *rows])
        yield ""
    counts = [f"{number:,} {status}" for status, number in found.counts.items() if number]
    counts += [f"{found.renamed:,} renamed"] if found.renamed else []
    if counts:
        total, stored = found.as_dict()["bytes"], found.as_dict()["delta_bytes"]
        yield f"{count(len(found.tensors), 'tensor')}: {', '.join(counts)}"
        yield f"{size(total)} in B, of which {size(stored)} ({share(stored, total)}) would be stored beside A"
    if found.equal:
        yield "both hold the same"


def _row(tensor: TensorChange) -> tuple[str, ...]:
    name = printable(tensor.name) + (f" (was {printable(tensor.was)})" if tensor.was else "")
    dtype = f" from {tensor.dtype_was}" if tensor.dtype_was else ""
    changed = "" if tensor.changed is None else f"{100 * tensor.changed:.1f} %"
    delta = size(tensor.stored) if tensor.status in {"changed", "added"} else ""
    return name, tensor.status + dtype, changed, size(tensor.size), delta, tensor.kind


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1])]
        cells += [cell.rjust(width) for cell, width in zip(row[2:5], widths[2:5], strict=True)]
        yield "  ".join([*cells, row[5]]).rstrip()
