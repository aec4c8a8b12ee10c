"""`shardflow approve`: sign that you stand behind a version's next move."""

from __future__ import annotations

from pathlib import Path

import click

from shardflow.cli.named import NamedPath
from shardflow.cli.run import Run, json_option, quiet_option

STATUSES = ("testing", "staging", "production", "archived")


@click.command("approve", short_help="Sign that you stand behind a version's next move.")
@click.argument("version", metavar="MODEL/VERSION")
@click.option("--for", "status", required=True, type=click.Choice(STATUSES), help="Where it is to go.")
@click.option("--key", type=NamedPath(path_type=Path), help="Your private key, in place of SHARDFLOW_KEY's.")
@json_option
@quiet_option
@click.pass_obj
def command(run: Run, version: str, status: str, key: Path | None) -> None:
    """Sign an approval of a version for STATUS, and hand it in. It is about the files that the version has now, and
    counts for the person whose key the server's policy says it is.

    \b
    Examples:
      shardflow approve llama/3 --for production
    """
    from shardflow.cli.registry import client
    from shardflow.registry.evidence_recording import approve
    from shardflow.registry.terms import Status

    with client() as mlflow:
        found = approve(version, Status(status), key=key, client=mlflow)
    run.give({"version": found.name, "for": status}, [f"approved {found.title} for {status}"])
