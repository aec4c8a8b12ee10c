"""Who has to vouch for a server that is reached by TLS: the system's authorities, others as well, or nobody."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shardflow.errors import ShardflowError

if TYPE_CHECKING:
    import ssl

    from obstore.store import ClientConfig

_REMEDY = "name a file of certificates in PEM, or 'false' to talk to any server"


@dataclass(frozen=True, slots=True)
class Certificates:
    """The same for obstore's clients, and for requests that are made without it."""

    client: ClientConfig
    context: ssl.SSLContext | None = None


def accepted(ssl_verify: str) -> Certificates:
    """What an option asks for: `true` or nothing, `false`, or a file of certificates to accept besides the system's."""
    if ssl_verify.lower() in ("", "true"):
        return Certificates({})
    import ssl  # noqa: PLC0415  # seldom needed

    context = ssl.create_default_context()
    if ssl_verify.lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return Certificates({"allow_invalid_certificates": True}, context)
    try:
        context.load_verify_locations(ssl_verify)
        return Certificates({"root_certificate": Path(ssl_verify).read_bytes()}, context)
    except ssl.SSLError:
        raise ShardflowError(f"option ssl_verify: {ssl_verify} holds no certificates", remedy=_REMEDY) from None
    except (OSError, ValueError) as error:
        raise ShardflowError(f"option ssl_verify: {ssl_verify} cannot be read ({error})", remedy=_REMEDY) from None
