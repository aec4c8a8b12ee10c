"""Ways around the gate as plain requests, such as curl sends: each has to be refused, with a status that says why.

`AS_REQUESTS` has what MLflow's client sends for each of `bypasses`, under the same name; `ONLY_AS_REQUESTS` what no
client of MLflow would send. `TRIED` and `HARMLESS` name every route of a server by which a registry can be changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LLAMA = {"name": "llama"}
SECOND, THIRD = {**LLAMA, "version": "2"}, {**LLAMA, "version": "3"}
FIRST = {**LLAMA, "version": "1"}
SERVES = [{"key": "shardflow.status", "value": "production"}]
PROMPT = {"key": "mlflow.prompt.is_prompt", "value": "true"}

CODES = {403: "PERMISSION_DENIED", 409: "RESOURCE_CONFLICT", 400: "INVALID_PARAMETER_VALUE"}


@dataclass(frozen=True)
class Request:
    """One request, below /api/2.0/mlflow/, and the status of its answer."""

    path: str
    body: dict[str, Any]
    status: int
    method: str = "POST"


@dataclass(frozen=True)
class Refused:
    """What is said to a request that has no counterpart in a client, and what the trail calls it."""

    request: Request
    answer: str
    action: str


STAGE, VERSION_TAG = "model-versions/transition-stage", "model-versions/set-tag"
CREATE, DELETE = "model-versions/create", "model-versions/delete"
ALIAS, MODEL_TAG = "registered-models/alias", "registered-models/set-tag"

AS_REQUESTS: dict[str, Request] = {
    "a stage that no path leads to": Request(STAGE, {**THIRD, "stage": "Production"}, 409),
    "the same, archiving who serves": Request(
        STAGE, {**THIRD, "stage": "Production", "archive_existing_versions": True}, 409
    ),
    "the alias of a status": Request(ALIAS, {**THIRD, "alias": "production"}, 409),
    "the alias of a status in other letters": Request(ALIAS, {**THIRD, "alias": "Production"}, 403),
    "the name of a status without alias": Request(ALIAS, {**FIRST, "alias": "archived"}, 403),
    "an alias of a semantic version": Request(ALIAS, {**THIRD, "alias": "v9-9-9"}, 403),
    "taking the alias from who serves": Request(ALIAS, {**LLAMA, "alias": "production"}, 403, "DELETE"),
    "the tag of the status": Request(VERSION_TAG, {**THIRD, "key": "shardflow.status", "value": "production"}, 409),
    "a tag of the registry that means nothing": Request(
        VERSION_TAG, {**THIRD, "key": "shardflow.approved", "value": "yes"}, 400
    ),
    "the tag of the status in capitals": Request(
        VERSION_TAG, {**THIRD, "key": "SHARDFLOW.STATUS", "value": "production"}, 400
    ),
    "removing the tag of the status": Request(
        "model-versions/delete-tag", {**FIRST, "key": "shardflow.status"}, 403, "DELETE"
    ),
    "a version registered with a forged status": Request(
        CREATE, {**LLAMA, "source": "s3://bucket/x", "tags": SERVES}, 403
    ),
    "a version registered with a forged approval": Request(
        CREATE, {**LLAMA, "source": "s3://bucket/x", "tags": [{"key": "shardflow.approved", "value": "yes"}]}, 400
    ),
    "a copy that says that it serves": Request(CREATE, {**LLAMA, "source": "models:/llama/3", "tags": SERVES}, 403),
    "a model that becomes a prompt": Request(MODEL_TAG, {**LLAMA, **PROMPT}, 403),
    "the same in capitals, which some databases take for it": Request(
        MODEL_TAG, {**LLAMA, "key": "MLflow.Prompt.Is_Prompt", "value": "true"}, 403
    ),
    "files of a model under the name of a prompt, which has no lifecycle": Request(
        CREATE, {"name": "ask", "source": "s3://bucket/llama"}, 403
    ),
    "a tag of the registry on a model": Request(MODEL_TAG, {**LLAMA, "key": "shardflow.policy", "value": "none"}, 403),
    "a model registered with a tag of the registry": Request(
        "registered-models/create", {"name": "other", "tags": [{"key": "shardflow.policy", "value": "none"}]}, 403
    ),
    "deleting who serves": Request(DELETE, FIRST, 409, "DELETE"),
    "deleting what is in staging": Request(DELETE, SECOND, 409, "DELETE"),
    "deleting the model of who serves": Request("registered-models/delete", LLAMA, 409, "DELETE"),
    "another name, for which another policy holds": Request(
        "registered-models/rename", {**LLAMA, "new_name": "sandbox"}, 409
    ),
    "a version as MLflow reads it and nobody writes it": Request(
        STAGE, {**LLAMA, "version": " 3", "stage": "Production"}, 409
    ),
    "the alias of a status for such a version": Request(ALIAS, {**LLAMA, "version": "+3", "alias": "production"}, 409),
    "the tag of the status for such a version": Request(
        VERSION_TAG, {**LLAMA, "version": "3\n", "key": "shardflow.status", "value": "production"}, 409
    ),
    "deleting who serves, written so": Request(DELETE, {**LLAMA, "version": " 1"}, 409, "DELETE"),
    "an alias that some databases take for that of a status": Request(ALIAS, {**THIRD, "alias": "prodüction"}, 403),
    "taking the alias away in such letters": Request(ALIAS, {**LLAMA, "alias": "\uff50roduction"}, 403, "DELETE"),
    "an alias that some databases take for that of a semantic version": Request(
        ALIAS, {**THIRD, "alias": "V9-9-\uff19"}, 403
    ),
    "a tag that some databases take for that of the status": Request(
        VERSION_TAG, {**FIRST, "key": "shârdflow.status", "value": "draft"}, 400
    ),
}

ONLY_AS_REQUESTS: dict[str, Refused] = {
    "a stage in small letters, fields as other languages write them": Refused(
        Request(STAGE, {**THIRD, "stage": "production", "archiveExistingVersions": True}, 409),
        "Move it to staging first",
        "move",
    ),
    "a version in the digits of another script": Refused(
        Request(STAGE, {**LLAMA, "version": "٣", "stage": "Production"}, 409), "Move it to staging first", "move"
    ),
    "the same tag twice, the second one forged": Refused(
        Request(
            CREATE,
            {**LLAMA, "source": "s3://x/y", "tags": [{"key": "shardflow.status", "value": "draft"}, *SERVES]},
            403,
        ),
        "Register it without a status, then move it",
        "create",
    ),
    "a version that says that it is a prompt": Refused(
        Request(CREATE, {**LLAMA, "source": "prompt-template", "tags": [PROMPT]}, 403),
        "Register a prompt under a name of its own",
        "create",
    ),
    "a version that becomes a prompt": Refused(
        Request(VERSION_TAG, {**THIRD, **PROMPT}, 403), "Register a prompt under a name of its own", "tag"
    ),
    "a prompt that stops being one": Refused(
        Request("registered-models/delete-tag", {"name": "ask", "key": PROMPT["key"]}, 403, "DELETE"),
        "Register a prompt under a name of its own",
        "tag",
    ),
    "a tag of the registry taken from a model": Refused(
        Request("registered-models/delete-tag", {**LLAMA, "key": "shardflow.policy"}, 403, "DELETE"),
        "Set it on a version, or choose another name",
        "tag",
    ),
    "a status with a reason that is to forge a second row": Refused(
        Request(VERSION_TAG, {**THIRD, "key": "shardflow.status", "value": "production: fine\nada done"}, 400),
        "Give at most 1000 letters in one line",
        "tag",
    ),
}

TRIED = {(each.method, each.path) for each in AS_REQUESTS.values()} | {
    (each.request.method, each.request.path) for each in ONLY_AS_REQUESTS.values()
}

HARMLESS: dict[tuple[str, str], str] = {
    ("POST", "registered-models/get-latest-versions"): "it only reads",
    ("PATCH", "registered-models/update"): "it changes a description, and is in the trail",
    ("PATCH", "model-versions/update"): "it changes a description, and is in the trail",
    ("POST", "webhooks"): "it changes whom MLflow tells what happened, after it did",
    ("PATCH", "webhooks/<webhook_id>"): "the same",
    ("DELETE", "webhooks/<webhook_id>"): "the same",
    ("POST", "webhooks/<webhook_id>/test"): "it sends an example",
}

ANSWERED_ELSEWHERE = "/gateway/"
"""Routes below it hand requests on to other services; all that they want of the registry is who is to be told."""
