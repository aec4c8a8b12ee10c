"""How a command ends: which exit code an error has, and the one line it is told in.

0 done; 1 failed, or problems were found; 2 asked in a way that cannot be meant; 130 and 143 stopped by a signal;
141 nobody reads the output any more.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from dataclasses import dataclass

import click

from shardflow.cli.text import printable
from shardflow.errors import ShardflowError, without_passwords

FAILED = 1
USAGE = 2
INTERRUPTED = 130
PIPE_CLOSED = 141

OF_THE_REGISTRY = {"OpenSSL", "cryptography", "mlflow", "model_signing", "sqlalchemy", "yaml"}
"""What commands about registered models import, at many places."""


@dataclass(frozen=True, slots=True)
class Ending:
    """An exit code, and what to say on stderr."""

    code: int
    line: str = ""


def ending_of(error: BaseException) -> Ending:
    """How the process ends because of this error."""
    match error:
        case click.exceptions.Exit():
            return Ending(error.exit_code)
        case click.exceptions.NoArgsIsHelpError():
            return Ending(USAGE, error.format_message())
        case BrokenPipeError():
            return Ending(PIPE_CLOSED)
    code, what, remedy = _told(error)
    line = f"shardflow: {what}; {remedy}" if remedy else f"shardflow: {what}"
    # What other programs tell may have the address in it that they were given, whole.
    return Ending(code, printable(without_passwords(line)))


def _told(error: BaseException) -> tuple[int, str, str]:
    """Exit code, what happened, and what to do about it."""
    match error:
        case click.UsageError():
            return USAGE, _sentence(error), _see_help(error)
        case ShardflowError():
            return _code_of(error), error.message, error.remedy
        case OSError():
            return FAILED, _of_the_system(error), "free some space" if error.errno == errno.ENOSPC else ""
        case MemoryError():
            return FAILED, "out of memory", "set SHARDFLOW_MEMORY_BYTES to less"
        case KeyboardInterrupt():
            return INTERRUPTED, "interrupted", ""
    return _lacking(error) or _unexpected(error)


def _lacking(error: BaseException) -> tuple[int, str, str] | None:
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").partition(".")[0] not in OF_THE_REGISTRY:
        return None
    return FAILED, f"this command needs {error.name}, which is not installed", "pip install 'shardflow[registry]'"


def _unexpected(error: BaseException) -> tuple[int, str, str]:
    name = type(error).__name__
    what = f"unexpected {name}: {error}" if str(error) else f"unexpected {name}"
    return FAILED, what, "run it again with --debug and report what it prints"


def _code_of(error: ShardflowError) -> int:
    from shardflow.transport.url import WrongURL

    return USAGE if isinstance(error, WrongURL) else FAILED


def _of_the_system(error: OSError) -> str:
    what = (error.strerror or str(error)).lower()
    return what if error.filename is None else f"{error.filename}: {what}"


def _sentence(error: click.UsageError) -> str:
    text = error.format_message().strip().rstrip(".")
    return text[:1].lower() + text[1:]


def _see_help(error: click.UsageError) -> str:
    return f"see '{error.ctx.command_path} --help'" if error.ctx else "see 'shardflow --help'"


def say(line: str) -> None:
    """One line on stderr."""
    # Where nobody is there to read it, the exit code still tells.
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
