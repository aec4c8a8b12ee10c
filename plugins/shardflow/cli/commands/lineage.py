"""`shardflow lineage`: where a model version comes from, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.text import facts, printable

if TYPE_CHECKING:
    from shardflow.registry.lineage import Lineage


@click.command("lineage", short_help="Show where a model version comes from, and what came of it.")
@click.argument("version", metavar="MODEL/VERSION")
@click.option("--depth", type=click.IntRange(1), default=20, show_default=True, help="How many steps to show.")
@click.option("--page", is_flag=True, help="Put the lineage beside the model as lineage.html, for MLflow's pages.")
@json_option
@quiet_option
@click.pass_obj
def command(run: Run, version: str, depth: int, page: bool) -> None:
    """Show the lineage of a registered version: the run, the code and the data it was made with, all versions that it
    descends from, and all that descend from it. MLflow is found by MLFLOW_TRACKING_URI.

    \b
    Examples:
      shardflow lineage llama/3
      shardflow lineage llama@1.4.2 --json
      shardflow lineage llama@production --page
    """
    from shardflow.cli.registry import client
    from shardflow.registry.lineage import lineage_of
    from shardflow.registry.lineage_page import log_page
    from shardflow.registry.references import find

    with client() as mlflow:
        found = find(version, mlflow)
        lineage = lineage_of(found, mlflow)
        if page:
            log_page(lineage, found.location)
    run.give(lineage.as_dict(), _lines(lineage, depth))


def _lines(lineage: Lineage, depth: int) -> Iterator[str]:
    from shardflow.registry.lineage import title

    origin = lineage.origin
    yield title(lineage, lineage.of)
    run = f"{origin.run_name} ({origin.run_id})" if origin.run_name else origin.run_id or "not known"
    known = [("run", run), ("by", origin.user), ("code", origin.code), ("commit", origin.commit)]
    known += [("data", f"{data.name} {data.digest} {data.source}") for data in origin.datasets]
    yield from (f"  {line}" for line in facts([(name, value) for name, value in known if value]))
    yield from _tree(lineage, "parents", "made from", depth)
    yield from _tree(lineage, "children", "what was made from it", depth)


def _tree(lineage: Lineage, towards: str, heading: str, depth: int) -> Iterator[str]:
    from shardflow.registry.lineage import title, tree

    lines = list(tree(lineage, towards=towards, deepest=depth))
    if lines:
        yield heading
    for line in lines:
        note = ", shown above" if line.again else f", {line.more:,} more" if line.more else ""
        yield f"{'  ' * line.depth}{printable(title(lineage, line.name))} [{line.relation}{note}]"
