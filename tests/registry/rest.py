"""Requests to a server without any client of MLflow."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from registry.live import Live


def post(
    live: Live, path: str, body: dict[str, Any], method: str = "POST", *, api: str = "api", **headers: str
) -> tuple[int, Any]:
    """The status and the answer of one request; `api` is "ajax-api" for what pages send.

    A path that begins with a slash is below neither.
    """
    request = urllib.request.Request(
        f"{live.uri}{path}" if path.startswith("/") else f"{live.uri}/{api}/2.0/mlflow/{path}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
        method=method,
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
