"""What every command shares: its common options, how it finds its store, how it gives its result."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

from shardflow.cli.text import printable
from shardflow.cli.units import count, duration, size
from shardflow.numpy_at_rest import import_numpy_at_rest

if TYPE_CHECKING:
    from shardflow.cli.interruption import Interruption
    from shardflow.store.store import Store
    from shardflow.transport import Totals

STORE_VARIABLE = "SHARDFLOW_STORE"
RESUMES = "run the same command again: what is finished stays, and it goes on from there"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Run:
    """One command: what it was told beside its own arguments, and the store it works on."""

    interruption: Interruption
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    options: dict[str, str] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return round(time.monotonic() - self.started, 3)

    def resumable(self) -> None:
        """From here on, a user who stops the command is told that running it again goes on."""
        self.interruption.remedy = RESUMES

    def find(self, url: str) -> tuple[Store, str]:
        """The store a URL lies in, and the path in it."""
        import_numpy_at_rest()
        from shardflow.store.store import Store

        return Store.find(url, self.options)

    def whole_store(self, url: str | None) -> Store:
        """The store a URL names, by default the one of SHARDFLOW_STORE; refuses a path inside of it."""
        store, path = self.find(url_or_default(url))
        if path:
            raise click.UsageError(f"this works on a whole store, and {path!r} is a path in one; name {store.url}")
        return store

    def give(self, document: Mapping[str, Any], lines: Iterable[str]) -> None:
        """The result: a JSON document, or lines to read, or nothing if quiet."""
        if self.json:
            print(as_json(document, indent=2))
        elif not self.quiet:
            show(lines)

    def tell_traffic(self, *totals: Totals) -> None:
        """With --verbose, what went between this machine and the store."""
        if not self.verbose:
            return
        moved: dict[str, int] = {}
        for one in totals:
            for name, number in one.as_dict().items():
                moved[name] = moved.get(name, 0) + number
        print(
            f"{count(moved['reads'], 'read')} ({size(moved['bytes_received'])}), "
            f"{count(moved['objects_written'], 'write')} ({size(moved['bytes_sent'])}), "
            f"{count(moved['objects_deleted'], 'delete')}, "
            f"{count(moved['retries'], 'retry', 'retries')}, {duration(self.seconds)}",
            file=sys.stderr,
        )


def url_or_default(url: str | None) -> str:
    """The URL that was given, or that of SHARDFLOW_STORE."""
    url = url or os.environ.get(STORE_VARIABLE)
    if not url:
        raise click.UsageError(f"no store is named: give its URL, or set {STORE_VARIABLE}")
    return url


def show(lines: Iterable[str]) -> None:
    """Lines for people, names in them made harmless."""
    for line in lines:
        print(printable(line))


def as_json(document: Any, indent: int | None = None) -> str:
    return json.dumps(document, indent=indent, default=str)


def _noted(name: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def note(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        setattr(ctx.ensure_object(Run), name, value)

    return note


def _pairs(ctx: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> None:
    options = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{value!r} is not of the form key=value", ctx, parameter)
        options[name] = text
    ctx.ensure_object(Run).options = options


def _flag(*names: str, note: str, help: str) -> Callable[[F], F]:  # noqa: A002  # click's word
    return click.option(*names, is_flag=True, expose_value=False, callback=_noted(note), help=help)


json_option = _flag("--json", note="json", help="Print the result as one JSON document.")
json_lines_option = _flag("--json", note="json", help="Print one JSON object a line.")
quiet_option = _flag("--quiet", "-q", note="quiet", help="Print errors only.")
verbose_option = _flag("--verbose", "-v", note="verbose", help="Also say what went to and from the store.")
debug_option = _flag("--debug", note="debug", help="Show where in the program an error came from.")
backend_option = click.option(
    "--option",
    "-o",
    "pairs",
    multiple=True,
    metavar="KEY=VALUE",
    expose_value=False,
    callback=_pairs,
    help="A setting of the backend, such as endpoint=http://host:9000; may be repeated.",
)


def store_options(function: F) -> F:
    """What every command that talks to a store takes."""
    return backend_option(debug_option(function))
