"""`shardflow promote`: move a registered version to another status."""

from __future__ import annotations

import click

from shardflow.cli.run import Run, json_option, quiet_option

STATUSES = ("draft", "testing", "staging", "production", "archived")


@click.command("promote", short_help="Move a registered version to another status.")
@click.argument("version", metavar="MODEL/VERSION")
@click.argument("status", type=click.Choice(STATUSES))
@click.option("--reason", metavar="TEXT", help="Why, for the history.")
@json_option
@quiet_option
@click.pass_obj
def command(run: Run, version: str, status: str, reason: str | None) -> None:
    """Move a version of a registered model to STATUS, if the lifecycle and the registry's policy allow it.

    It is the same act as a change of the stage in MLflow's pages. A version that comes to production takes the place of
    the one that is there, which is archived. MLflow is found by MLFLOW_TRACKING_URI and MLFLOW_REGISTRY_URI.

    \b
    Examples:
      shardflow promote llama/3 staging
      shardflow promote llama@1.4.2 production --reason "beats 1.3 on all suites"
    """
    from shardflow.cli.registry import client
    from shardflow.registry.asking import head_told
    from shardflow.registry.claims import checked_reason
    from shardflow.registry.references import STATUS_TAG, find

    because = checked_reason(reason)
    with client() as mlflow:
        before = find(version, mlflow)
        head_told(mlflow)  # a registry of MLflow's own would keep the tag, and move nothing
        mlflow.set_model_version_tag(
            before.model, str(before.version), STATUS_TAG, f"{status}: {because}" if because else status
        )
    document = {"model": before.model, "version": before.version, "before": before.status, "after": status}
    run.give({**document, "reason": because}, [f"{before.name}: {before.status} -> {status}"])
