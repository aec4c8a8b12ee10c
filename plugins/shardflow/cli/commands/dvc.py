"""`shardflow dvc`: DVC with `shardflow://` remotes, and what Shardflow adds to it."""

from __future__ import annotations

import signal
from importlib import import_module
from typing import Any

import click

from shardflow.errors import ShardflowError

SUBCOMMANDS: dict[str, str] = {
    "init": "shardflow.cli.commands.dvc_init:command",
    "lineage": "shardflow.cli.commands.dvc_lineage:command",
}
"""Our own commands, by name: where they are. All other names are DVC's."""

AS_TYPED = {"ignore_unknown_options": True, "allow_interspersed_args": False}


class DvcMissing(ShardflowError):
    """DVC, or what makes Shardflow's stores its remotes, is not installed."""


class DvcCommands(click.Group):
    """Our own commands, and DVC's under any other name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """One of our own, once it is sure that it can run."""
        if cmd_name not in SUBCOMMANDS:
            return None
        registered()
        module, name = SUBCOMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that a line names; one that is not ours goes to DVC as it was typed."""
        if args and args[0] not in SUBCOMMANDS:
            return args[0], through, args
        return super().resolve_command(ctx, args)


@click.group("dvc", cls=DvcCommands, short_help="DVC with stores as remotes.", context_settings=AS_TYPED)
def command() -> None:
    """Run DVC so that it knows shardflow:// remotes, whether or not its hook is at work in this environment.

    Every command of DVC can stand here, as it does after `dvc`. It needs the package shardflow-dvc.

    \b
    Examples:
      shardflow dvc remote add -d store shardflow://s3/bucket/prefix
      shardflow dvc push
    """


@click.command("dvc", context_settings=AS_TYPED, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def through(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """A command of DVC's, with its own exit code and its own way to be interrupted."""
    registered()
    from dvc.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        code = main(list(arguments))
    except SystemExit as ended:  # as after --help
        code = ended.code
    ctx.exit(code)


def registered() -> Any:
    """Make DVC know our remotes; tells what to install where that is missing."""
    try:
        from shardflow.dvc import register

        register()
        return import_module("dvc")
    except ImportError as error:
        raise DvcMissing(
            f"DVC with Shardflow's remotes is not installed ({error})", remedy="pip install shardflow-dvc"
        ) from None
