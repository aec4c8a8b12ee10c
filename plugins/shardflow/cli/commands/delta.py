"""`shardflow delta`: patch files, for those who move versions without a store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from shardflow.cli.named import NamedPath, ReadPlace, WrittenPath
from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.text import facts
from shardflow.cli.units import count, share, size, timing

if TYPE_CHECKING:
    from shardflow.patch.applying import Described


@click.group("delta", short_help="Make and apply patches between versions, without a store.")
def command() -> None:
    """Make, show and apply patch files: what leads from one version of a model to the next.

    A patch holds the checksums of both versions. It is applied to nothing but the version it was made for, and what
    comes of it is proven before it takes its place.

    \b
    Examples:
      shardflow delta create v1.safetensors v2.safetensors v1-v2.patch
      shardflow delta apply v1.safetensors v1-v2.patch v2.safetensors
    """


@command.command("create", short_help="Make the patch from one version to another.")
@click.argument("old", type=ReadPlace())
@click.argument("new", type=ReadPlace())
@click.argument("patch", type=WrittenPath())
@click.option("--adapter", metavar="DIR", type=NamedPath(), help="The adapter, as peft saved it, that was merged.")
@json_option
@quiet_option
@click.pass_obj
def create(run: Run, old: str, new: str, patch: str, adapter: str | None) -> None:
    """Write PATCH, which leads from OLD to NEW: two files, or two directories, on this disk or in a store."""
    from shardflow.patch import create as make

    made = make(old, new, patch, adapter)
    run.give(
        {"patch": patch, **asdict(made), "seconds": run.seconds},
        [
            (
                f"wrote {patch}, {size(made.patch_bytes)}: {share(made.patch_bytes, made.new_bytes)} of {new}"
                f" in {timing(made.new_bytes, run.seconds)}"
            ),
            (
                f"  {size(made.copied_bytes)} lie in {old} as they are,"
                f" {size(made.on_bases_bytes)} are held by how they differ from it"
            ),
        ],
    )


@command.command("apply", short_help="Make the later version from the earlier one.")
@click.argument("old", type=ReadPlace())
@click.argument("patches", nargs=-1, required=True, metavar="PATCH...", type=NamedPath())
@click.argument("out", type=WrittenPath())
@json_option
@quiet_option
@click.pass_obj
def apply(run: Run, old: str, patches: tuple[str, ...], out: str) -> None:
    """Make OUT from OLD and one PATCH, or several in their order. OLD stays as it is; a file at OUT is replaced."""
    from shardflow.patch import apply as make

    made = make(old, patches, out)
    run.give(
        {"out": out, "bytes": made, "seconds": run.seconds},
        [f"wrote {out}, {size(made)}, as the patch promises, in {timing(made, run.seconds)}"],
    )


@command.command("info", short_help="Show what a patch is for.")
@click.argument("patch", type=NamedPath())
@json_option
@click.pass_obj
def info(run: Run, patch: str) -> None:
    """Show what PATCH leads from and to, with checksums."""
    from shardflow.patch import describe

    found = describe(patch)
    run.give(_document(found), facts(_facts(found)))


@command.command("chain", short_help="Check that patches follow each other.")
@click.argument("patches", nargs=-1, required=True, metavar="PATCH...", type=NamedPath())
@click.option(
    "--apply",
    "ends",
    nargs=2,
    metavar="OLD OUT",
    type=(ReadPlace(), WrittenPath()),
    help="Apply them all to OLD, as OUT.",
)
@json_option
@quiet_option
@click.pass_obj
def chain(run: Run, patches: tuple[str, ...], ends: tuple[str, str] | None) -> None:
    """Show the way that several patches lead, and check that each begins where the one before it ends."""
    from shardflow.patch import apply as make
    from shardflow.patch import check_chain, describe

    found = [describe(patch) for patch in patches]
    check_chain(found)
    lines = [f"{each.patch}: {_ends(each, 'old')} to {_ends(each, 'new')}, {size(each.patch_bytes)}" for each in found]
    total = sum(each.patch_bytes for each in found)
    document: dict[str, Any] = {"patches": [_document(each) for each in found], "patch_bytes": total}
    lines.append(f"{count(len(found), 'patch', 'patches')} that follow each other, {size(total)}")
    if ends:
        older, out = ends
        made = make(older, patches, out)
        document |= {"out": out, "bytes": made}
        lines.append(f"wrote {out}, {size(made)}, as the last patch promises")
    run.give(document, lines)


def _document(found: Described) -> dict[str, Any]:
    directory = found.directory
    return {
        "patch": found.patch,
        "patch_bytes": found.patch_bytes,
        "single": directory.single,
        "old": [{"path": file.path, "bytes": file.size, "blake3": file.digest.hex()} for file in directory.old],
        "new": [{"path": file.path, "bytes": file.size, "blake3": file.digest.hex()} for file in directory.new],
        "chunks": len(directory.rows),
    }


def _facts(found: Described) -> Iterator[tuple[str, str]]:
    directory = found.directory
    yield "patch", f"{found.patch}, {size(found.patch_bytes)}, {count(len(directory.rows), 'chunk')}"
    for which, files in (("from", directory.old), ("to", directory.new)):
        for file in files:
            yield which, f"{file.path or 'one file'}, {size(file.size)}, blake3 {file.digest.hex()}"


def _ends(found: Described, which: str) -> str:
    files = found.directory.old if which == "old" else found.directory.new
    return files[0].digest.hex()[:16] if len(files) == 1 else count(len(files), "file")
