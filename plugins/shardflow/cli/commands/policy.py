"""`shardflow policy`: write, check and explain the policy that moves of registered models are held to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shardflow.cli.named import NamedPath
from shardflow.cli.run import Run, json_option, quiet_option
from shardflow.cli.units import count

if TYPE_CHECKING:
    from shardflow.registry.explaining import Explanation
    from shardflow.registry.policy import Policy

STATUSES = ("draft", "testing", "staging", "production", "archived")


@click.group("policy", short_help="Say what moves of registered models need, and ask what is missing.")
def command() -> None:
    """A policy says which moves of which models need which evidence: metrics, an evaluation, approvals, a signature, a
    known lineage. MLflow's server holds every move to the policy that SHARDFLOW_POLICY names, or to the file
    shardflow-policy.yaml beside its SQLite database.

    \b
    Examples:
      shardflow policy init
      shardflow policy explain llama/3 production
    """


@command.command("init", short_help="Write the default policy, with your key in it.")
@click.argument("file", type=NamedPath(path_type=Path), default="shardflow-policy.yaml")
@quiet_option
@click.pass_obj
def init(run: Run, file: Path) -> None:
    """Write the default policy to FILE (by default shardflow-policy.yaml). Your public key is in it, so that what you
    sign counts; a key is made if you have none. An existing file is not overwritten.

    \b
    Examples:
      shardflow policy init
      shardflow policy init /srv/mlflow/shardflow-policy.yaml
    """
    from shardflow.registry.keys import key_path
    from shardflow.registry.policy_files import write_policy

    made = write_policy(file)
    lines = [f"wrote {file}, in which {made.person} is trusted"]
    run.give({}, [*lines, *([f"made a new key for that: {key_path()}"] if made.new_key else [])])


@command.command("check", short_help="Check a policy file.")
@click.argument("file", type=NamedPath(path_type=Path))
@json_option
@quiet_option
@click.pass_obj
def check(run: Run, file: Path) -> None:
    """Say whether FILE is a policy; if not, in which line and column it is wrong.

    \b
    Examples:
      shardflow policy check shardflow-policy.yaml
    """
    from shardflow.registry.policy_files import checked_policy

    policy = checked_policy(file)
    rules, keys = len(policy.rules.rules), len(policy.keys)
    run.give({"file": str(file), "rules": rules, "keys": sorted(policy.keys)}, _summary(policy, keys))


@command.command("explain", short_help="Say what is missing for a move.")
@click.argument("version", metavar="MODEL/VERSION")
@click.argument("status", type=click.Choice(STATUSES))
@json_option
@click.pass_obj
def explain(run: Run, version: str, status: str) -> None:
    """Say what stands against moving a version to STATUS, by the server's own policy. Nothing is moved. Ends with exit
    code 1 if the move would be refused.

    \b
    Examples:
      shardflow policy explain llama/3 production
      shardflow policy explain llama@1.4.2 staging --json
    """
    from shardflow.cli.registry import client
    from shardflow.registry.explaining import explained
    from shardflow.registry.references import find
    from shardflow.registry.terms import Status

    with client() as mlflow:
        found = explained(find(version, mlflow), Status(status), mlflow)
    run.give(found.as_dict(), _explanation(found))
    if not found.allowed:
        raise click.exceptions.Exit(1)


@command.command("key", short_help="Print your public key, ready for a policy.")
@click.pass_obj
def key(run: Run) -> None:
    """Print your public key as it goes below `keys:` in a policy. Your key is the file that SHARDFLOW_KEY names, else
    ~/.config/shardflow/key.pem; it is made if it is not there.
    """
    from shardflow.registry.policy_files import own_key

    run.give({}, own_key().entry.splitlines())


def _summary(policy: Policy, keys: int) -> Iterator[str]:
    yield f"{policy.name} is a policy of {count(len(policy.rules.rules), 'rule')} and {count(keys, 'key')}"
    for rule in policy.rules.rules:
        before = f" from {', '.join(sorted(rule.before))}" if rule.before is not None else ""
        needed = count(len(rule.requirements), "condition")
        yield f"  {', '.join(rule.models)}{before} to {', '.join(sorted(rule.to))}: {needed}"


def _explanation(found: Explanation) -> Iterator[str]:
    if found.there:
        yield f"{found.version.name} is in {found.after} already"
    elif found.allowed:
        yield f"{found.version.name} may go from {found.version.status} to {found.after}"
    else:
        yield f"{found.version.name} may not go from {found.version.status} to {found.after} yet:"
    yield from (f"  {refusal.rule}: {refusal}" for refusal in found.refusals)
    for kind, values in found.evidence.items():
        yield f"  {kind.replace('_', ' ')}: {'; '.join(values)}"
