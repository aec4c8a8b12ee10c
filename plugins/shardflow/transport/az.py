"""Azure Blob Storage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obstore.store import AzureStore

from shardflow.errors import ShardflowError
from shardflow.transport.endpoint import checked_endpoint
from shardflow.transport.errors import AccessDenied
from shardflow.transport.provider import NO_RETRIES, Provider, client_config, first_set, make_clients

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore import PutMode
    from obstore.store import ClientConfig

_IN_CONNECTION_STRING = {
    "accountname": "account_name",
    "accountkey": "account_key",
    "sharedaccesssignature": "sas_key",
    "blobendpoint": "endpoint",
}

# The names of the SDKs first, then those of the `az` command.
_IN_ENVIRONMENT = {
    "account_name": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
    "account_key": ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"),
    "sas_key": ("AZURE_STORAGE_SAS_KEY", "AZURE_STORAGE_SAS_TOKEN"),
    "endpoint": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


class Azure(Provider[AzureStore]):
    """One container."""

    credentials = "set AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"

    def __init__(self, container: str, options: Mapping[str, str]) -> None:
        config = _account(dict(options))
        if not config.get("account_name") and not config.get("use_emulator"):
            raise AccessDenied("no Azure storage account is named", remedy=self.credentials)
        self.endpoint = checked_endpoint(config.get("endpoint", ""))
        client = client_config(config, "AZURE", self.endpoint or ("http://" if config.get("use_emulator") else ""))

        def make(client: ClientConfig) -> AzureStore:
            return AzureStore(container, config=config, client_options=client, retry_config=NO_RETRIES)  # type: ignore[arg-type]

        self._clients = make_clients(make, client, self.credentials)

    def update_mode(self, path: str, etag: str) -> PutMode:  # noqa: ARG002
        return {"e_tag": f'"{etag}"'}

    def delete_unchanged(self, path: str, etag: str) -> None:
        from shardflow.transport.signed import signed_delete  # noqa: PLC0415 - http.client, which few commands need

        signed_delete(self.writing, path, f'"{etag}"')


def _account(options: dict[str, str]) -> dict[str, Any]:
    """Where to go and as whom: options first, then a connection string, then single variables."""
    text = options.pop("connection_string", "")
    if not text and not options.keys() & _IN_ENVIRONMENT.keys():
        text = first_set("AZURE_STORAGE_CONNECTION_STRING")
    if text:
        return {**parse_connection_string(text), **options}
    environment = {name: first_set(*variables) for name, variables in _IN_ENVIRONMENT.items()}
    return {name: value for name, value in environment.items() if value} | options


def parse_connection_string(text: str) -> dict[str, str]:
    """The settings in an Azure connection string, under obstore's names."""
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    if not pairs or any(not equals for _, equals, _ in pairs):
        raise ShardflowError("the Azure connection string is not valid", remedy="copy it from the portal, whole")
    given = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if given.get("usedevelopmentstorage", "").lower() == "true":
        return {"use_emulator": "true"}
    found = {ours: given[theirs] for theirs, ours in _IN_CONNECTION_STRING.items() if theirs in given}
    if "endpoint" not in found and "endpointsuffix" in given and "account_name" in found:
        protocol = given.get("defaultendpointsprotocol", "https")
        found["endpoint"] = f"{protocol}://{found['account_name']}.blob.{given['endpointsuffix']}"
    return found
