"""`shardflow convert`: write a checkpoint in another format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.display import State, following
from shardflow.cli.extras import needing
from shardflow.cli.named import ReadPlace, WrittenPlace
from shardflow.cli.run import Run, debug_option, json_option, quiet_option
from shardflow.cli.units import count, size, timing

if TYPE_CHECKING:
    from shardflow.flavor.converting import Conversion, ConversionProgress


@click.command("convert", short_help="Write a checkpoint in another format.")
@click.argument("source", metavar="SRC", type=ReadPlace())
@click.argument("target", metavar="DST", type=WrittenPlace())
@click.option("--to", required=True, metavar="FORMAT", help="The format to write.")
@click.option("--from", "source_format", metavar="FORMAT", help="The format of SRC, where its files do not tell.")
@click.option("--replace", is_flag=True, help="Let DST take the place of what is there.")
@click.option("--fill-missing", is_flag=True, help="Take chunks that a zarr array does not have as zeros.")
@json_option
@quiet_option
@debug_option
@click.pass_obj
def command(
    run: Run, source: str, target: str, to: str, source_format: str | None, replace: bool, fill_missing: bool
) -> None:
    """Write the tensors of the checkpoint SRC to DST in another format, and compare the two bit by bit.

    SRC and DST are directories, or URLs in a store. SRC may also be a file that torch or safetensors wrote, a Hugging
    Face model, a directory of torch.distributed.checkpoint, or a tree of zarr arrays as T5X and Orbax write them.
    Tensors pass through in pieces: SHARDFLOW_MEMORY_BYTES bounds what is in memory at once. DST appears when it is
    complete and compared. Files beside the weights, such as a config or a tokenizer, are not copied.

    \b
    Formats: safetensors, torch, torch-zstd, dcp, tensorstore, tensorstore-t5x, tensorstore-fast, and those that other
    packages register.

    \b
    Examples:
      shardflow convert pytorch_model.bin out/llama --to safetensors
      shardflow convert /runs/7/step-100 shardflow://s3/bucket/llama --to safetensors
      shardflow convert shardflow://s3/bucket/llama out/zarr --to tensorstore-t5x
    """
    with needing("flavor", "convert"):
        from shardflow.flavor.converting import ConversionProgress, convert
        from shardflow.flavor.formats import names
    if to not in names():
        raise click.BadParameter(f"there is no format {to!r}; there are {', '.join(names())}", param_hint="--to")
    progress = ConversionProgress()
    with following(lambda: _state(progress), hidden=run.quiet):
        done = convert(
            source,
            target,
            to,
            format=source_format,
            replace=replace,
            fill_missing=fill_missing,
            progress=progress,
        )
    run.give({**done.as_dict(), "seconds": run.seconds}, _report(done, run.seconds))


def _state(progress: ConversionProgress) -> State:
    doing = "compare" if progress.bytes_done * 2 >= progress.bytes_total > 0 else "convert"
    return State(doing, progress.bytes_done, progress.bytes_total)


def _report(done: Conversion, seconds: float) -> Iterator[str]:
    yield f"{count(done.tensors, 'tensor')}, {size(done.bytes)}, in {timing(done.bytes, seconds)}"
    yield f"{done.target} is {done.format} now, and the same as {done.source} bit by bit"
    if done.left_out:
        shown = ", ".join(done.left_out[:5]) + (", ..." if len(done.left_out) > 5 else "")
        yield f"  left out, being no tensors: {shown}"
