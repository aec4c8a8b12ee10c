"""`shardflow publish`: log a model, register it, number it, and record what it was made from, in one act."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from shardflow.cli.named import NamedPath
from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.units import read_size, size

if TYPE_CHECKING:
    from shardflow.registry.publishing import Published


@click.command("publish", short_help="Log, register and number a model, and record what it was made from.")
@click.argument("path", type=NamedPath())
@click.option("--name", required=True, metavar="MODEL", help="The registered model.")
@click.option("--version", metavar="1.4.0", help="The semantic version; proposed from what changed if left out.")
@click.option("--base", metavar="MODEL@1.3.2", help="The version that this one was made from.")
@click.option("--relation", type=click.Choice(["base", "adapter", "merged"]), default="base", show_default=True,
              help="What the base is to it.")  # fmt: skip
@click.option("--experiment", metavar="NAME", help="The experiment to log to, in place of MLFLOW_EXPERIMENT_NAME's.")
@click.option("--sharding", type=click.Choice(["auto", "layers", "balanced", "attention"]), help="How files are made.")
@click.option("--shard-size", type=read_size, metavar="SIZE", help="No file larger than this, such as 2GB.")
@click.option("--format", metavar="FORMAT", help="The format of the weights, in place of safetensors.")
@click.option("--factory", metavar="MODULE:NAME", help="What makes the module again, for weights without a config.")
@click.option("--trust", is_flag=True, help="Open a pickled checkpoint, which can run code.")
@click.option("--tag", "pairs", multiple=True, metavar="KEY=VALUE", help="A tag of the version; may be repeated.")
@click.option("--description", help="What the version's page says.")
@json_option
@quiet_option
@click.pass_obj
def command(
    run: Run,
    /,
    path: str,
    name: str,
    version: str | None,
    base: str | None,
    relation: str,
    experiment: str | None,
    pairs: tuple[str, ...],
    description: str | None,
    **logging: Any,
) -> None:
    """Publish the model at PATH: a checkpoint, the directory of a Hugging Face model, or what an MLflow flavor saved.

    It is logged in files of a fair size, sent as the difference from what the store has, registered as the next version
    of MODEL with its semantic version, and its lineage is recorded. If it is interrupted, run the same command again:
    what has arrived is not sent twice.

    \b
    Examples:
      shardflow publish out/llama-tuned --name llama --version 1.4.0 --base llama@1.3.2
      shardflow publish out/model.safetensors --name bert --experiment bert --shard-size 1GB
    """
    from shardflow.cli.registry import client
    from shardflow.registry.publishing import publish

    if not Path(path).exists():
        raise click.BadParameter(f"there is nothing at {path!r}", param_hint="PATH")
    run.resumable()
    with client() as mlflow:
        _use(experiment)
        done = publish(
            path,
            name=name,
            version=version,
            base=base,
            relation=relation,
            tags=_tags(pairs),
            description=description,
            client=mlflow,
            **_wanted(**logging),
        )
    run.give({**done.as_dict(), "seconds": run.seconds}, _lines(done))


def _use(experiment: str | None) -> None:
    import mlflow

    if experiment:
        mlflow.set_experiment(experiment)


def _wanted(**options: Any) -> dict[str, Any]:
    """What was asked for on the command line, under the names of the flavor; the rest is the flavor's to choose."""
    options["max_shard_bytes"] = options.pop("shard_size")
    return {name: value for name, value in options.items() if value}


def _tags(pairs: tuple[str, ...]) -> dict[str, str]:
    tags = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{pair!r} is not of the form key=value", param_hint="--tag")
        tags[key] = value
    return tags


def _lines(done: Published) -> Iterator[str]:
    yield f"published {done.version.name} as {done.semantic.text}: {done.reason}"
    if done.sent is not None and done.reused is not None:
        yield f"  {size(done.reused)} were there already, {size(done.sent)} sent"
    yield f"  {done.version.location}"
