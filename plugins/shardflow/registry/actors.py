"""Who asks: the user whom the server has checked, or whom the client says it is, which counts as unverified.

The store itself is never told. Under MLflow's basic-auth the name is in Flask's `g` while a request is served. A
client with this package sends the name of its user in a header; without one, and without basic-auth, only the address
is known.
"""

from __future__ import annotations

import getpass
from urllib.parse import quote, unquote

from shardflow.registry.terms import Actor

HEADER = "X-Shardflow-User"
LONGEST_NAME = 200


class UserHeader:
    """Tells the server who uses this client (entry point `mlflow.request_header_provider`)."""

    def in_context(self) -> bool:
        return True

    def request_headers(self) -> dict[str, str]:
        return {HEADER: quote(local_user(), safe=" @")}


def current_actor() -> Actor:
    """Whoever the request that is being served comes from; without one, the user of this process."""
    from flask import g, has_request_context, request  # noqa: PLC0415  # clients never serve requests

    if not has_request_context():
        return Actor(_shown(local_user()))
    checked = getattr(g, "mlflow_authenticated_user", None)
    if checked:
        return Actor(_shown(checked), verified=True)
    claimed = unquote(request.headers.get(HEADER, "")) or (request.authorization and request.authorization.username)
    return Actor(_shown(claimed or f"somebody at {request.remote_addr}"))


def local_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as containers have
        return "unknown"


def _shown(name: str) -> str:
    """A name that fits a table and a line: what cannot be printed is replaced."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)[:LONGEST_NAME]
