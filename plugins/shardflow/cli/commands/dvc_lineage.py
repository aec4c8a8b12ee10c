"""`shardflow dvc lineage`: the data and the code behind a model version, and the versions that came from some data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.extras import needing
from shardflow.cli.run import Run, debug_option, json_option, quiet_option
from shardflow.cli.text import facts

if TYPE_CHECKING:
    from shardflow.dvc.lineage import Came, Found


@click.command("lineage", short_help="Which data made a model version, and which versions came from some data.")
@click.argument("reference", metavar="[MODEL]", required=False)
@click.option("--data", metavar="PATH[@REV]|MD5", help="Ask which models came from this data instead.")
@json_option
@quiet_option
@debug_option
@click.pass_obj
def command(run: Run, reference: str | None, data: str | None) -> None:
    """Which data and which code made MODEL: a registered version (classifier/3, classifier@champion, models:/...), a
    logged model (m-...), or a run (runs:/ID). Data is followed back over the stages that made it, as far as the history
    of dvc.lock in this project goes, and models over those they were made from.

    With --data it is the other way round: every model that was made from a file or directory, at a revision or as it is
    now, or from data with this MD5; over all stages between them, and with all models made from those models.

    MLflow is found by MLFLOW_TRACKING_URI.

    \b
    Examples:
      shardflow dvc lineage classifier/3
      shardflow dvc lineage --data data/raw.csv@v1.0 --json
    """
    from shardflow.cli.registry import client

    with needing("mlflow", "dvc lineage"):
        from shardflow.dvc.lineage import came_from, made_from
    if (reference is None) == (data is None):
        raise click.UsageError("name a model, or some data with --data")
    with client() as mlflow:
        if data is not None:
            came = came_from(data, mlflow)
            run.give(came.as_dict(), _models(came))
        elif reference is not None:
            found = made_from(reference, mlflow)
            run.give({"models": [model.as_dict() for model in found]}, _origins(found))


def _origins(models: list[Found]) -> Iterator[str]:
    for number, model in enumerate(models):
        if number:
            yield ""
        yield model.title
        lines = [("run", f"{model.run_name} ({model.run_id})")] if model.run_id else []
        lines += _made_with(model)
        lines += [("data", f"{data.path}  {data.md5}  {data.role}") for data in model.data]
        lines += [("made by", step.text) for step in model.steps]
        lines += [("made from", parent) for parent in model.parents]
        yield from (f"  {line}" for line in facts(lines))


def _models(came: Came) -> Iterator[str]:
    for data in came.data:
        yield f"{data.path or 'data'}  {data.md5}  {data.role}"
    if not came.models:
        yield "no model came from it"
    for model in came.models:
        yield f"  {model.title}  by {model.how}"
        yield from (f"    {line}" for line in facts(_made_with(model)))


def _made_with(model: Found) -> list[tuple[str, str]]:
    lines = [("code", model.code.text)] if model.code else []
    return lines + ([("checkpoint", model.checkpoint)] if model.checkpoint else [])
