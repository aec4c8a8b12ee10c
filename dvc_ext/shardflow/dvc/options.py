"""What a remote's section in DVC's configuration may hold, under the names of dvc-s3, dvc-gs and dvc-azure.

What a store cannot do it refuses by name, and says what to do instead, which is better than to pass over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shardflow.transport.url import StoreURL, WrongURL

_TRUE = "true"

OPTIONS: dict[str, dict[str, type]] = {
    "s3": {
        "ssl_verify": object,  # a switch, or a file
        **dict.fromkeys(("region", "profile", "credentialpath", "configpath", "endpointurl"), str),
        **dict.fromkeys(("access_key_id", "secret_access_key", "session_token"), str),
        **dict.fromkeys(("sse", "sse_kms_key_id", "sse_customer_key", "sse_customer_algorithm"), str),
        "use_ssl": bool,
        "allow_anonymous_login": bool,
        "connect_timeout": int,
    },
    "gs": {"credentialpath": str, "endpointurl": str, "allow_anonymous_login": bool},
    "az": {
        **dict.fromkeys(("connection_string", "sas_token", "account_name", "account_key"), str),
        **dict.fromkeys(("tenant_id", "client_id", "client_secret"), str),
        "allow_anonymous_login": bool,
        "connection_timeout": int,
        "timeout": int,
    },
}
"""By backend, and the kind of value."""

_VERSIONS = "a store keeps versions by itself: take it out"
_SILENCE = "silence is noticed after 60 s, whatever the server: take it out"
_ACL = "objects belong to the bucket's owner: grant access in the bucket's policy"
_ONE_LOGIN = (
    "of the machine's logins only its managed identity is asked for, and only without a key or token: take it out, "
    "or name a login by connection_string, account_key, sas_token or client_id"
)

REFUSED: dict[str, dict[str, str]] = {
    "s3": {
        **dict.fromkeys(("acl", "grant_read", "grant_read_acp", "grant_write_acp", "grant_full_control"), _ACL),
        "cache_regions": "the region is not searched for: name it by region",
        "listobjects": "DVC does without it: take it out",
        "read_timeout": _SILENCE,
    },
    "gs": {"projectname": "the bucket's name says which project it is in: take it out"},
    "az": {
        **dict.fromkeys(
            (
                "exclude_environment_credential",
                "exclude_visual_studio_code_credential",
                "exclude_shared_token_cache_credential",
                "exclude_managed_identity_credential",
            ),
            _ONE_LOGIN,
        ),
        "read_timeout": _SILENCE,
    },
}
"""By backend: what DVC's own remotes of its kind take and a store does not, and what to do."""

REFUSED_ANYWHERE = {
    "version_aware": _VERSIONS,
    "worktree": _VERSIONS,
    "no_traverse": "DVC does without it: take it out",
}
"""The same, of all of DVC's remotes."""

_RENAMED = {
    "endpointurl": "endpoint",
    "sas_token": "sas_key",
    "sse": "server_side_encryption",
    "sse_customer_key": "sse_customer_key_base64",
    "connection_timeout": "connect_timeout",
}
_VARIABLES = {"credentialpath": "AWS_SHARED_CREDENTIALS_FILE", "configpath": "AWS_CONFIG_FILE"}


def checked_section(data: dict[str, Any]) -> dict[str, Any]:
    """A remote's section as DVC goes on with it; refused in DVC's own way where it is wrong."""
    from dvc.config_schema import REMOTE_COMMON  # noqa: PLC0415  # only where DVC is at work
    from voluptuous import Invalid, Schema  # noqa: PLC0415

    try:
        url = StoreURL.parse(data["url"])
    except WrongURL as error:
        raise Invalid(str(error), path=["url"]) from None
    for name, remedy in {**REFUSED_ANYWHERE, **REFUSED.get(url.backend, {})}.items():
        if name in data:
            raise Invalid(f"stores do not have the option {name}: {remedy}", path=[name])
    common = {name: REMOTE_COMMON[name] for name in ("url", "checksum_jobs", "jobs")}
    checked: dict[str, Any] = Schema({**common, **validators(url.backend)})(data)
    return checked


def validators(*backends: str) -> dict[Any, Any]:
    """The options of some backends, as voluptuous has them, without those that all of DVC's remotes have."""
    from dvc.config_schema import Bool  # noqa: PLC0415
    from voluptuous import All, Coerce, Optional, Range  # noqa: PLC0415
    from voluptuous import Any as Either  # noqa: PLC0415

    senses = {str: str, bool: Bool, int: All(Coerce(int), Range(1)), object: Either(Bool, str)}
    own = {name: senses[kind] for backend in backends for name, kind in OPTIONS.get(backend, {}).items()}
    return {**own, Optional("verify", default=False): Bool}


def transport_options(backend: str, section: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """A remote's options as the transport names them, and environment variables that stand for the rest."""
    given = {name: section[name] for name in OPTIONS.get(backend, {}) if section.get(name) not in (None, "")}
    variables = {}
    if backend == "s3":
        variables = {_VARIABLES[name]: str(given.pop(name)) for name in _VARIABLES if name in given}
        _address(given)
        if given.pop("sse_customer_algorithm", "") or "sse_customer_key" in given:
            given["sse"] = "sse-c"
    elif "credentialpath" in given:
        given["application_credentials"] = given.pop("credentialpath")
    if given.pop("allow_anonymous_login", False):
        given["skip_signature"] = _TRUE
    return {_RENAMED.get(name, name): _told(value) for name, value in given.items()}, variables


def _told(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _address(given: dict[str, Any]) -> None:
    """An endpoint without a scheme gets the one that `use_ssl` asks for."""
    secure = given.pop("use_ssl", True)
    endpoint = given.get("endpointurl", "")
    if endpoint and "://" not in endpoint:
        given["endpointurl"] = f"{'https' if secure else 'http'}://{endpoint}"
