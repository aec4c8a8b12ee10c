"""The command and its subcommands; each is imported only when it is asked for, so that help comes at once."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from shardflow import __version__
from shardflow.cli.ending import Ending, ending_of, say
from shardflow.cli.interruption import Interruption, Stopped, leave
from shardflow.cli.run import Run, debug_option
from shardflow.cli.streams import open_missing_streams
from shardflow.errors import without_passwords

SECTIONS = {
    "Files": ("init", "put", "get", "ls", "stat", "rm"),
    "Versions": ("diff", "delta"),
    "Models": ("reshard", "migrate", "convert"),
    "DVC": ("dvc",),
    "Registered models": ("publish", "promote", "history", "audit", "deploy", "lineage", "compare", "prune"),
    "Evidence": ("policy", "sign", "verify", "approve"),
    "Care of a store": ("stats", "fsck", "gc", "repack", "rebuild", "doctor", "bench"),
}
COMPLETE_VARIABLE = "_SHARDFLOW_COMPLETE"


class Commands(click.Group):
    """The group of all commands, and the one place where their errors become lines and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # what may be typed is always the same
        return [name for names in SECTIONS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = import_module(f"shardflow.cli.commands.{cmd_name}").command
        _let_debug(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 16
        for section, names in SECTIONS.items():
            commands = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(section):
                formatter.write_dl([(name, found.get_short_help_str(width)) for name, found in commands if found])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit with its code."""
        if COMPLETE_VARIABLE in os.environ:
            return super().main(args, prog_name or "shardflow", complete_var, standalone_mode, **extra)
        sys.exit(self.run(sys.argv[1:] if args is None else args, Interruption()))

    def run(self, args: Sequence[str], interruption: Interruption) -> int:
        """Run a command line; returns its exit code once what there is to say has been said."""
        run = Run(interruption)
        try:
            with self.make_context("shardflow", list(args), obj=run) as ctx:
                self.invoke(ctx)
            sys.stdout.flush()
            return 0
        except BaseException as error:  # noqa: BLE001  # whatever it is, it ends as a line and an exit code
            ending = _stopped(error, interruption) or ending_of(error)
            if run.debug and not isinstance(error, click.exceptions.Exit):
                print(without_passwords("".join(traceback.format_exception(error))), end="", file=sys.stderr)
        if ending.line:
            say(ending.line)
        return ending.code


def _let_debug(command: click.Command) -> None:
    """Give a command, or those of a group, the option that an unexpected error tells people to use."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _let_debug(each)
    elif not command.ignore_unknown_options and all(option.name != "debug" for option in command.params):
        debug_option(command)


def _stopped(error: BaseException, interruption: Interruption) -> Ending | None:
    if isinstance(error, Stopped):
        return Ending(128 + error.number, interruption.message(error.number))
    return None


@click.group(
    cls=Commands,
    epilog="A URL is shardflow://<backend>/<path> (backend: file, s3, gs, az) or a plain local path. "
    "'shardflow COMMAND --help' shows an example of each command.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None:
    """Store large models once, send only what changed, and get them back verified to the last bit."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The whole process: runs one command line and leaves."""
    if COMPLETE_VARIABLE in os.environ:
        commands.main(args)
    open_missing_streams()  # before anything else is opened, which would get their numbers
    interruption = Interruption()
    interruption.install()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = commands.run(sys.argv[1:] if args is None else args, interruption)
    except Stopped as stopped:  # it came while the outcome was being told
        leave(128 + stopped.number, interruption.message(stopped.number))
    # Threads may still wait for a server. Nothing they do counts any more, and Python would wait for them.
    leave(code)
