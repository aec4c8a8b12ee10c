"""Google Cloud Storage, by its XML interface."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import obstore
from obstore.store import GCSStore

from shardflow.transport.endpoint import checked_endpoint
from shardflow.transport.errors import IT_CHANGED, Changed
from shardflow.transport.provider import NO_RETRIES, Provider, client_config, first_set, make_clients

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore import ObjectMeta, PutMode
    from obstore.store import ClientConfig


class GCS(Provider[GCSStore]):
    """One bucket. GCS compares generations, so an ETag is first exchanged for the generation that has it."""

    credentials = "set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run 'gcloud auth application-default login'"

    def __init__(self, bucket: str, options: Mapping[str, str]) -> None:
        config: dict[str, Any] = dict(options)
        self.endpoint = checked_endpoint(config.pop("endpoint", "") or _emulator())
        self._client = client_config(config, "GOOGLE", self.endpoint)
        if self.endpoint:
            config["service_account_key"] = _no_account(self.endpoint)
        self._make = _maker(bucket, config)
        self._clients = make_clients(self._make, self._client, self.credentials)

    def update_mode(self, path: str, etag: str) -> PutMode:
        return {"version": self._generation(path, etag)}

    def delete_unchanged(self, path: str, etag: str) -> None:
        """The condition travels as a default header of a client made for this one request."""
        headers = {"x-goog-if-generation-match": self._generation(path, etag)}
        obstore.delete(self._make({**self._client, "default_headers": headers}), path)

    def _generation(self, path: str, etag: str) -> str:
        try:
            meta: ObjectMeta = obstore.head(self.reading, path)
        except FileNotFoundError:
            raise Changed("it is gone") from None
        if (meta["e_tag"] or "").strip('"') != etag or meta["version"] is None:
            raise Changed(IT_CHANGED)
        return meta["version"]


def _maker(bucket: str, config: dict[str, Any]) -> Callable[[ClientConfig], GCSStore]:
    def make(client: ClientConfig) -> GCSStore:
        return GCSStore(bucket, config=config, client_options=client, retry_config=NO_RETRIES)  # type: ignore[arg-type]

    return make


def _emulator() -> str:
    """STORAGE_EMULATOR_HOST as Google's own clients read it: with or without a scheme."""
    host = first_set("STORAGE_EMULATOR_HOST")
    return host if not host or "://" in host else f"http://{host}"


def _no_account(endpoint: str) -> str:
    """Settings for a server that asks for no token; without them even unsigned writes ask the metadata server."""
    blank = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return json.dumps({"gcs_base_url": endpoint, "disable_oauth": True, **blank})
