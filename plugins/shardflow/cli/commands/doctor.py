"""`shardflow doctor`: examine this machine, and a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from shardflow.cli.care import store_argument
from shardflow.cli.run import Run, json_option, quiet_option, show, store_options
from shardflow.cli.text import columns

if TYPE_CHECKING:
    from shardflow.store.care.finding import Finding

_MARKS = {True: "ok", False: "BAD", None: ""}


@click.command("doctor", short_help="Examine this machine, and a store.")
@store_argument
@json_option
@quiet_option
@store_options
@click.pass_obj
def command(run: Run, url: str | None) -> None:
    """Show what Shardflow has and lacks on this machine, and whether the store at URL can be used from here.

    Without URL the store is that of SHARDFLOW_STORE, if that is set. Exit code 1 if anything is not well.

    \b
    Examples:
      shardflow doctor
      shardflow doctor shardflow://s3/bucket/models
    """
    from shardflow.store.care.doctor import diagnose
    from shardflow.transport import StoreURL

    place = str(StoreURL.parse(url)) if url else None
    findings = diagnose(place, run.options)
    bad = [finding for finding in findings if finding.ok is False]
    document = {"ok": not bad, "url": place, "findings": [finding.as_dict() for finding in findings]}
    run.give(document, _report(findings))
    if bad:
        if run.quiet and not run.json:
            show(_report(bad))
        raise click.exceptions.Exit(1)


def _report(findings: list[Finding]) -> Iterator[str]:
    yield from columns([(_MARKS[finding.ok], finding.name, _told(finding)) for finding in findings], "<<<")


def _told(finding: Finding) -> str:
    return f"{finding.what}; {finding.remedy}" if finding.remedy and not finding.ok else finding.what
