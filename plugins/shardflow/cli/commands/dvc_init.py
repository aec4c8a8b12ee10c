"""`shardflow dvc init`: write a pipeline to start from into a DVC project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.named import NamedPath
from shardflow.cli.run import Run, debug_option, json_option, quiet_option

if TYPE_CHECKING:
    from shardflow.dvc.scaffold import Scaffold

NEXT = (
    "python -m pipeline.sample       # or put your own table there: numbers, and a last column label",
    "dvc add data/raw.csv",
    "dvc repro",
    "git add --all && git commit -m 'A pipeline'",
    "dvc exp run -S train.lr=0.003   # and 'dvc exp show' to compare",
)


@click.command("init", short_help="Write a pipeline to start from.")
@click.argument("directory", default=".", type=NamedPath(file_okay=False))
@json_option
@quiet_option
@debug_option
@click.pass_obj
def command(run: Run, directory: str) -> None:
    """Write a pipeline that works into DIRECTORY of a DVC project: prepare, train with checkpoints that survive a
    crash, evaluate, register. Runs go to MLflow, weights and checkpoints to a store. Nothing is overwritten.

    To set up DVC itself, run 'dvc init'.

    \b
    Examples:
      shardflow dvc init
      shardflow dvc init training
    """
    from shardflow.dvc.scaffold import scaffold

    made = scaffold(directory)
    run.give({"directory": str(made.directory), "files": list(made.files), "next": list(NEXT)}, _lines(made, directory))


def _lines(made: Scaffold, directory: str) -> Iterator[str]:
    yield f"wrote {len(made.files)} files: {', '.join(made.files)}"
    yield ""
    yield "What to do next:"
    if directory != ".":
        yield f"  cd {directory}"
    yield from (f"  {line}" for line in NEXT)
    yield ""
    yield "What the stages do is in pipeline/, what can be set in params.yaml."
