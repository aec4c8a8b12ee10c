"""Ways around the gate, as calls of MLflow's client or store: each must be refused, change nothing, and leave a trace.

They are tried on a model `llama` whose version 1 serves, version 2 is in staging and version 3 is a draft, beside a
prompt `ask`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient

Attempt = Callable[[MlflowClient], Any]


@dataclass(frozen=True)
class Bypass:
    """One attempt, and what the answer says."""

    name: str
    attempt: Attempt
    answer: str
    action: str


def prepare(client: MlflowClient) -> None:
    client.register_prompt("ask", "What is {{ this }}?")
    client.create_registered_model("llama")
    for _ in range(3):
        client.create_model_version("llama", "s3://bucket/llama")
    client.transition_model_version_stage("llama", "1", "Staging")
    client.transition_model_version_stage("llama", "1", "Production")
    client.transition_model_version_stage("llama", "2", "Staging")


BYPASSES = [
    Bypass(
        "a stage that no path leads to",
        lambda client: client.transition_model_version_stage("llama", "3", "Production"),
        "Move it to staging first",
        "move",
    ),
    Bypass(
        "the same, archiving who serves",
        lambda client: client.transition_model_version_stage(
            "llama", "3", "Production", archive_existing_versions=True
        ),
        "Move it to staging first",
        "move",
    ),
    Bypass(
        "the alias of a status",
        lambda client: client.set_registered_model_alias("llama", "production", "3"),
        "Move it to staging first",
        "move",
    ),
    Bypass(
        "the alias of a status in other letters",
        lambda client: client.set_registered_model_alias("llama", "Production", "3"),
        "Write production",
        "alias",
    ),
    Bypass(
        "the name of a status without alias",
        lambda client: client.set_registered_model_alias("llama", "archived", "1"),
        "Move it to its status instead",
        "alias",
    ),
    Bypass(
        "an alias of a semantic version",
        lambda client: client.set_registered_model_alias("llama", "v9-9-9", "3"),
        "Set the tag shardflow.version instead",
        "alias",
    ),
    Bypass(
        "taking the alias from who serves",
        lambda client: client.delete_registered_model_alias("llama", "production"),
        "Move the version to another status instead",
        "alias",
    ),
    Bypass(
        "the tag of the status",
        lambda client: client.set_model_version_tag("llama", "3", "shardflow.status", "production"),
        "Move it to staging first",
        "move",
    ),
    Bypass(
        "a tag of the registry that means nothing",
        lambda client: client.set_model_version_tag("llama", "3", "shardflow.approved", "yes"),
        "Use a name that does not begin with shardflow.",
        "tag",
    ),
    Bypass(
        "the tag of the status in capitals",
        lambda client: client.set_model_version_tag("llama", "3", "SHARDFLOW.STATUS", "production"),
        "Use a name that does not begin with shardflow.",
        "tag",
    ),
    Bypass(
        "removing the tag of the status",
        lambda client: client.delete_model_version_tag("llama", "1", "shardflow.status"),
        "Set it instead",
        "tag",
    ),
    Bypass(
        "a version registered with a forged status",
        lambda client: client.create_model_version("llama", "s3://bucket/x", tags={"shardflow.status": "production"}),
        "Register it without a status, then move it",
        "create",
    ),
    Bypass(
        "a version registered with a forged approval",
        lambda client: client.create_model_version("llama", "s3://bucket/x", tags={"shardflow.approved": "yes"}),
        "Use a name that does not begin with shardflow.",
        "create",
    ),
    Bypass(
        "a copy that says that it serves",
        lambda client: client.create_model_version("llama", "models:/llama/3", tags={"shardflow.status": "production"}),
        "Register it without a status, then move it",
        "create",
    ),
    Bypass(
        "a model that becomes a prompt",
        lambda client: client.set_registered_model_tag("llama", "mlflow.prompt.is_prompt", "true"),
        "Register a prompt under a name of its own",
        "tag",
    ),
    Bypass(
        "the same in capitals, which some databases take for it",
        lambda client: client.set_registered_model_tag("llama", "MLflow.Prompt.Is_Prompt", "true"),
        "Register a prompt under a name of its own",
        "tag",
    ),
    Bypass(
        "files of a model under the name of a prompt, which has no lifecycle",
        lambda client: client.create_model_version("ask", "s3://bucket/llama"),
        "Register the model under another name",
        "create",
    ),
    Bypass(
        "a tag of the registry on a model",
        lambda client: client.set_registered_model_tag("llama", "shardflow.policy", "none"),
        "Set it on a version, or choose another name",
        "tag",
    ),
    Bypass(
        "a model registered with a tag of the registry",
        lambda client: client.create_registered_model("other", tags={"shardflow.policy": "none"}),
        "Set it on a version, or choose another name",
        "tag",
    ),
    Bypass(
        "deleting who serves",
        lambda client: client.delete_model_version("llama", "1"),
        "Archive llama/1 first",
        "delete",
    ),
    Bypass(
        "deleting what is in staging",
        lambda client: client.delete_model_version("llama", "2"),
        "Archive llama/2 first",
        "delete",
    ),
    Bypass(
        "deleting the model of who serves",
        lambda client: client.delete_registered_model("llama"),
        "Archive llama/1 first",
        "delete",
    ),
    Bypass(
        "another name, for which another policy holds",
        lambda client: client.rename_registered_model("llama", "sandbox"),
        "Archive llama/1 first",
        "rename",
    ),
    Bypass(
        "a version as MLflow reads it and nobody writes it",
        lambda client: client.transition_model_version_stage("llama", " 3", "Production"),
        "Move it to staging first",
        "move",
    ),
    Bypass(
        "the alias of a status for such a version",
        lambda client: client.set_registered_model_alias("llama", "production", "+3"),
        "Move it to staging first",
        "move",
    ),
    Bypass(
        "the tag of the status for such a version",
        lambda client: client.set_model_version_tag("llama", "3\n", "shardflow.status", "production"),
        "Move it to staging first",
        "move",
    ),
    Bypass(
        "deleting who serves, written so",
        lambda client: client.delete_model_version("llama", " 1"),
        "Archive llama/1 first",
        "delete",
    ),
    Bypass(
        "an alias that some databases take for that of a status",
        lambda client: client.set_registered_model_alias("llama", "prodüction", "3"),
        "Write production",
        "alias",
    ),
    Bypass(
        "taking the alias away in such letters",
        lambda client: client.delete_registered_model_alias("llama", "\uff50roduction"),
        "Move the version to another status instead",
        "alias",
    ),
    Bypass(
        "an alias that some databases take for that of a semantic version",
        lambda client: client.set_registered_model_alias("llama", "V9-9-\uff19", "3"),
        "Set the tag shardflow.version instead",
        "alias",
    ),
    Bypass(
        "a tag that some databases take for that of the status",
        lambda client: client.set_model_version_tag("llama", "1", "shârdflow.status", "draft"),
        "Use a name that does not begin with shardflow.",
        "tag",
    ),
]
