"""`shardflow compare`: two registered versions of a model side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.text import columns, printable
from shardflow.cli.units import count, size

if TYPE_CHECKING:
    from shardflow.registry.comparing import Compared, Pair


@click.command("compare", short_help="Compare two registered versions: metrics, parameters, tensors, kinship.")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--no-weights", is_flag=True, help="Read the heads of the files only, and not what each tensor holds.")
@click.option("--all", "everything", is_flag=True, help="List parameters that are equal, too.")
@json_option
@quiet_option
@click.pass_obj
def command(run: Run, a: str, b: str, no_weights: bool, everything: bool) -> None:
    """Compare version A with the later version B: metrics, parameters, sizes, what callers rely on, tensors, and how
    far apart they are in the lineage. 'shardflow diff' shows single tensors.

    \b
    Examples:
      shardflow compare llama@production llama/12
      shardflow compare llama/3 llama/4 --no-weights --json
    """
    from shardflow.cli.registry import client
    from shardflow.registry.comparing import compared
    from shardflow.registry.references import find

    with client() as mlflow:
        found = compared(find(a, mlflow), find(b, mlflow), mlflow, weights=not no_weights)
    run.give(found.as_dict(), _lines(found, everything=everything))


def _lines(found: Compared, *, everything: bool) -> Iterator[str]:
    rows = [("", found.a.title, found.b.title), ("status", str(found.a.status), str(found.b.status))]
    rows.append(("size", size(found.sizes[0]), size(found.sizes[1])))
    rows += [_row(pair) for pair in found.metrics]
    rows += [_row(pair) for pair in found.parameters if everything or pair.differs]
    yield from columns(rows, "<<<")
    yield f"{found.change}: {found.reason}" if found.reason != "nothing changed" else found.reason
    yield f"{count(len(found.files), 'file')} not the same in both"
    if found.tensors is not None:
        counts = [f"{number:,} {status}" for status, number in found.tensors.counts.items() if number]
        yield f"tensors: {', '.join(counts) or 'none'}"
    if found.distance is None:
        yield "the lineage knows of nothing that both were made from"
    else:
        yield f"{count(found.distance, 'step')} apart in the lineage"


def _row(pair: Pair) -> tuple[str, str, str]:
    return printable(pair.name), _shown(pair.a), _shown(pair.b)


def _shown(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else printable(str(value))
