"""`shardflow migrate`: take models that lie elsewhere into a store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from shardflow.cli.display import State, following
from shardflow.cli.extras import needing
from shardflow.cli.named import NamedPath, ReadPlace
from shardflow.cli.run import Run, json_option, quiet_option, show, store_options
from shardflow.cli.text import columns, printable
from shardflow.cli.units import count, duration, share, size

if TYPE_CHECKING:
    from shardflow.flavor.migrating import Migration, Moved
    from shardflow.flavor.moving.copying import MigrationProgress


def _pairs(_: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _text in pairs:
        if not name or not equals:
            raise click.BadParameter(f"{name!r} is not of the form key=value", param=parameter)
    return {name: text for name, _equals, text in pairs}


@click.command("migrate", short_help="Take models that lie elsewhere into a store.")
@click.argument("url")
@click.option("--model", metavar="NAME", help="All versions of a registered model.")
@click.option("--experiment", metavar="NAME", help="All logged models of an experiment.")
@click.option(
    "--from",
    "source",
    metavar="PLACE",
    type=ReadPlace(),
    help="All checkpoints in a directory, a bucket or another store.",
)
@click.option("--register-as", metavar="NAME", help="Register the copies, in order, as versions of this model.")
@click.option("--allow-missing", is_flag=True, help="Register the rest where some could not be moved.")
@click.option("--no-notes", is_flag=True, help="Set no tags in MLflow that say where the copies are.")
@click.option(
    "--order",
    type=click.Choice(["auto", "name", "time"]),
    default="auto",
    show_default=True,
    help="What tells the oldest checkpoint; auto: the number in its name, or its time where names have none.",
)
@click.option("--reread", is_flag=True, help="Compare with the originals, read a second time.")
@click.option("--scratch", metavar="DIR", type=NamedPath(file_okay=False), help="Where MLflow downloads to.")
@click.option("--from-option", multiple=True, metavar="KEY=VALUE", callback=_pairs, help="Like -o, for --from.")
@click.option("--dry-run", "-n", is_flag=True, help="Only list what would be moved.")
@click.option("--take-over", is_flag=True, help="Go on although another run says that it is at it.")
@json_option
@quiet_option
@store_options
@click.pass_obj
def command(
    run: Run, /, url: str, source: str | None, no_notes: bool, from_option: dict[str, str], **choices: Any
) -> None:
    """Copy models to URL in a store, oldest first, so that each is stored by how it differs from the one before.

    What is to be moved is named by one of --model, --experiment and --from. The old copies are left alone. Every file
    is read back and compared. Run again after an interruption, or when there are new versions, it moves what is
    missing.

    The server that --model and --experiment ask is the one of MLFLOW_TRACKING_URI. A tag shardflow.migrated_to says on
    each version where its copy is, and --register-as makes new versions that are loaded from there.

    \b
    Examples:
      shardflow migrate shardflow://s3/bucket/models --model llama --register-as llama-stored
      shardflow migrate shardflow://s3/bucket/models/run7 --from s3://checkpoints/run7
      shardflow migrate /data/models --experiment bert --dry-run
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # there is one bar, ours
    with needing("mlflow", "migrate"):
        from shardflow.flavor.migrating import migrate
        from shardflow.flavor.moving.copying import MigrationProgress

        if source is None:
            import mlflow  # noqa: F401  # to say now that it is missing
    run.resumable()
    progress = MigrationProgress()
    with following(lambda: _state(progress), hidden=run.quiet or choices["dry_run"]):
        done = migrate(
            url,
            source=source,
            notes=not no_notes,
            options=run.options,
            source_options=from_option,
            progress=progress,
            **choices,
        )
    run.give({**done.as_dict(), "dry_run": choices["dry_run"], "seconds": run.seconds}, [])
    if not run.json and not run.quiet:
        show(_report(done))
    if done.failed:
        raise click.exceptions.Exit(1)


def _state(progress: MigrationProgress) -> State:
    now = min(progress.versions_done + 1, progress.versions_total)
    which = f"{now}/{progress.versions_total} versions" if now else ""
    note = f"{which}, reading back" if progress.comparing else which
    return State(printable(progress.doing or "look"), progress.bytes_done, progress.bytes_total, note)


def _report(done: Migration) -> Iterator[str]:
    rows: list[tuple[str, ...]] = [("version", "", "files", "size", "stored", "saved", "time", "registered")]
    rows += [_row(version) for version in done.versions]
    width = 8 if any(version.registered for version in done.versions) else 7
    yield from columns([row[:width] for row in rows], "<<>>>>>>"[:width])
    for version in done.versions:
        if version.problem:
            yield f"{version.name or version.source}: {version.problem}"
    moved = sum(version.state == "moved" for version in done.versions)
    planned = [version for version in done.versions if version.state == "to be moved"]
    if planned:
        total = sum(version.bytes for version in planned)
        yield f"{count(len(planned), 'version')} would be moved to {done.url}, {size(total)}"
        return
    yield f"{count(moved, 'version')} moved to {done.url}; {size(done.bytes)} in all, {size(done.stored)} stored" + (
        f": {share(done.bytes - done.stored, done.bytes)} saved" if done.stored < done.bytes else ""
    )
    if done.failed:
        left_out = done.registered_as and not any(version.registered for version in done.versions)
        registered = f", so nothing was registered as {done.registered_as}" if left_out else ""
        yield f"{count(done.failed, 'version')} could not be moved{registered}"


def _row(version: Moved) -> tuple[str, ...]:
    name = printable(version.name or version.source)
    if version.state in ("failed", "in a store"):
        return name, version.state, "", "", "", "", "", version.registered
    files, total = f"{version.files:,}", size(version.bytes)
    if version.state == "to be moved":
        return name, version.state, files, total, "", "", "", ""
    saved = share(max(0, version.bytes - version.stored), version.bytes)
    return name, version.state, files, total, size(version.stored), saved, duration(version.seconds), version.registered
