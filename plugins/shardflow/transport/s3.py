"""Amazon S3 and what speaks its protocol behind an endpoint of its own, such as Ceph or MinIO."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore.store import S3Store

from shardflow.errors import ShardflowError
from shardflow.transport.certificates import accepted
from shardflow.transport.endpoint import checked_endpoint
from shardflow.transport.errors import AccessDenied
from shardflow.transport.provider import NO_RETRIES, Provider, client_config, first_set, is_true, make_clients

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore import PutMode
    from obstore.store import ClientConfig, S3CredentialProvider

# botocore renews credentials ten minutes before they end, so what it hands out is good for longer than this.
CREDENTIALS_KEPT = timedelta(minutes=5)

# The names of the SDKs first, then those that obstore would read by itself, unchecked.
ENDPOINT_OPTIONS = ("endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url")
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class S3(Provider[S3Store]):
    """One bucket."""

    credentials = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"

    def __init__(self, bucket: str, options: Mapping[str, str]) -> None:
        config: dict[str, Any] = dict(options)
        given = [config.pop(name) for name in ENDPOINT_OPTIONS if name in config]
        self.endpoint = checked_endpoint(next(filter(None, given), "") or first_set(*ENDPOINT_VARIABLES))
        self._certificates = accepted(config.pop("ssl_verify", ""))
        client: ClientConfig = {**client_config(config, "AWS", self.endpoint), **self._certificates.client}
        credential_provider = _credential_provider(config, self.credentials)
        config = _address(bucket, self.endpoint) | _signing(config, only_https=not client["allow_http"]) | config

        def make(client: ClientConfig) -> S3Store:
            return S3Store(
                bucket,
                config=config,  # type: ignore[arg-type]
                client_options=client,
                retry_config=NO_RETRIES,
                credential_provider=credential_provider,
            )

        self._clients = make_clients(make, client, self.credentials)

    def update_mode(self, path: str, etag: str) -> PutMode:  # noqa: ARG002
        """The ETag goes bare: AWS takes it with quotes or without, Ceph only without."""
        return {"e_tag": etag}

    def delete_unchanged(self, path: str, etag: str) -> None:
        from shardflow.transport.signed import signed_delete  # noqa: PLC0415 - http.client, which few commands need

        signed_delete(self.writing, path, etag, self._certificates.context)


def _address(bucket: str, endpoint: str) -> dict[str, Any]:
    """Servers of one's own have the bucket in the path; at AWS it is in the host name, which dots would spoil."""
    if endpoint:
        return {"endpoint": endpoint, "virtual_hosted_style_request": False, "disable_bulk_delete": True}
    return {"virtual_hosted_style_request": "." not in bucket, "disable_bulk_delete": True}


def _signing(given: Mapping[str, Any], *, only_https: bool) -> dict[str, Any]:
    """TLS lets no byte of a body pass that was changed, so a hash of it in the signature would be one more for nothing.

    boto3 leaves it out there too. A variable of the environment would be overruled by a setting, so it comes first.
    """
    settled = given.keys() & {"unsigned_payload", "aws_unsigned_payload"} or first_set("AWS_UNSIGNED_PAYLOAD")
    return {"unsigned_payload": "true"} if only_https and not settled else {}


def _credential_provider(config: dict[str, Any], how: str) -> S3CredentialProvider | None:
    """Profiles, SSO and roles by way of boto3, unless keys are given outright; fills in the profile's region."""
    profile = config.pop("profile", "")
    if config.keys() & {"access_key_id", "aws_access_key_id"} or is_true(config.get("skip_signature", "")):
        return None
    if not profile and (is_true(first_set("AWS_SKIP_SIGNATURE")) or _keys_in_environment()):
        return None
    try:
        import boto3  # noqa: PLC0415  (half a second, and seldom installed)
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
        from obstore.auth.boto3 import Boto3CredentialProvider  # noqa: PLC0415
    except ImportError:
        if profile or first_set("AWS_PROFILE"):
            raise ShardflowError("AWS profiles need boto3", remedy="pip install 'shardflow[s3]'") from None
        return None
    try:
        session = boto3.Session(profile_name=profile or None)
        found = Boto3CredentialProvider(session, ttl=CREDENTIALS_KEPT)
    except ValueError:
        raise AccessDenied("no credentials for S3 were found", remedy=how) from None
    except BotoCoreError as error:
        raise AccessDenied(f"no credentials for S3: {error}", remedy=how) from None
    if session.region_name:
        config.setdefault("region", session.region_name)
    return found


def _keys_in_environment() -> bool:
    return bool(first_set("AWS_ACCESS_KEY_ID") and first_set("AWS_SECRET_ACCESS_KEY"))
