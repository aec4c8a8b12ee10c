"""`shardflow bench`: measure on the machine at hand what a README can only claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State, following
from shardflow.cli.extras import needing
from shardflow.cli.named import NamedPath, WrittenPath
from shardflow.cli.run import Run, debug_option, json_option, quiet_option

if TYPE_CHECKING:
    from shardflow.flavor.measuring.course import Results

GIB = 1 << 30


@click.group("bench", short_help="Measure on this machine.")
def command() -> None:
    """Measure how fast Shardflow is on this machine, beside what people use otherwise.

    \b
    Example:
      shardflow bench checkpoint --gib 1
    """


@command.command("checkpoint", short_help="Checkpoint formats side by side.")
@click.option("--gib", type=click.FloatRange(min=0.001, max=10_000), help="The size of the state. [default: 1]")
@click.option("--params", type=click.Choice(["1b", "3b", "7b"]), help="The shapes of a LLaMA of this size instead.")
@click.option("--s3", metavar="URL", help="Make the stores below this URL, such as shardflow://s3/bucket/bench.")
@click.option("--way", "ways", multiple=True, metavar="NAME", help="Only this row, and torch; may be repeated.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Measured rounds.")
@click.option("--cold", is_flag=True, help="Also load from the disk, with what the page cache had dropped.")
@click.option(
    "--directory",
    type=NamedPath(path_type=Path, file_okay=False, exists=True),
    help="Where the states and files go; by default the system's place for temporary files.",
)
@click.option(
    "--out",
    type=WrittenPath(path_type=Path, file_okay=False),
    help="Write checkpoint.md, .json, .png and .svg into this directory.",
)
@json_option
@quiet_option
@debug_option
@click.pass_obj
def checkpoint(
    run: Run,
    gib: float | None,
    params: str | None,
    s3: str | None,
    ways: tuple[str, ...],
    rounds: int,
    cold: bool,
    directory: Path | None,
    out: Path | None,
) -> None:
    """Save and load a state of bfloat16 weights in every format: time, memory, bytes on disk.

    The rows are torch.save, TensorStore used plainly, as T5X does and as fast as it goes, and a store: weights
    (planes), what nothing compresses (raw), the same weights 10 steps of training on, and what an asynchronous save
    blocks. Every run is a process of its own that does the same once before, and rows take turns. All that is loaded is
    compared bit by bit.

    The plain ways of TensorStore take minutes for each GiB. Six times the size of the state is needed on the disk.

    \b
    Examples:
      shardflow bench checkpoint --gib 1 --out results
      shardflow bench checkpoint --params 3b --way planes --way raw --cold
    """
    if gib is not None and params is not None:
        raise click.UsageError("--gib and --params both say how large the state is; give one")
    with needing("bench", "bench"):
        from shardflow.flavor.measuring import course, report, shapes
        from shardflow.flavor.measuring.ways import PEER, WAYS

        if out is not None:
            from shardflow.flavor.measuring.chart import draw
    unknown = [name for name in ways if name not in WAYS]
    if unknown:
        raise click.BadParameter(f"there is no {unknown[0]!r}; there are {', '.join(WAYS)}", param_hint="--way")
    llama = shapes.NAMED[params] if params else shapes.of_bytes(int((gib or 1) * GIB))
    named = tuple(WAYS) if not ways else tuple(name for name in WAYS if name in ways or name == PEER)
    wanted = course.Wanted(llama, named, rounds, s3, cold, directory)
    doing = ["start"]
    with following(lambda: State(doing[-1], 0), hidden=run.quiet):
        results = course.run(wanted, doing.append)
    page = report.markdown(results)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "checkpoint.md").write_text(page)
        (out / "checkpoint.json").write_text(json.dumps(_document(results), indent=2) + "\n")
        draw(results, out / "checkpoint")
    run.give({**_document(results), "seconds": run.seconds}, page.splitlines())


def _document(results: Results) -> dict[str, object]:
    from shardflow.flavor.measuring.report import verdicts

    goals = [
        {"way": found.way, "what": found.what, "found": found.found, "goal": found.goal, "met": found.met}
        for found in verdicts(results)
    ]
    return {**results.as_dict(), "goals": goals}
