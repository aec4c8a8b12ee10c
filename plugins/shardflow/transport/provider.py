"""What differs from one object store to the next: how its clients are made, and how it compares versions."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from contextlib import nullcontext
from datetime import timedelta
from typing import TYPE_CHECKING, Generic, TypeVar

from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import AzureStore, GCSStore, MemoryStore, S3Store

from shardflow.errors import ShardflowError
from shardflow.transport.endpoint import without_secrets
from shardflow.transport.forks import client_threads
from shardflow.transport.limits import CONNECT_SECONDS, REQUEST_SECONDS, SILENCE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from obstore import PutMode
    from obstore.store import ClientConfig, RetryConfig

Store = TypeVar("Store", S3Store, GCSStore, AzureStore, MemoryStore)

NO_RETRIES: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(0)}
"""obstore would retry on its own, unseen and deaf to cancellation; all retrying is done by `retry.py`."""


class Provider(ABC, Generic[Store]):
    """One bucket, through a client for reading and one for writing."""

    remote = True
    """Reached over a network: large objects gain from moving in parts."""

    credentials = ""
    """How a user sets credentials, told when they are missing or refused."""

    exclusive: AbstractContextManager[object] = nullcontext()
    """Held around each write: for a store in this process, whose comparisons need it."""

    endpoint = ""
    """The server, where it is not the provider's own."""

    _clients: tuple[Store, Store]

    @property
    def reading(self) -> Store:
        """The client to make a request with that is answered with bytes."""
        client_threads.use(over_network=self.remote)
        return self._clients[0]

    @property
    def writing(self) -> Store:
        """The client to make any other request with."""
        client_threads.use(over_network=self.remote)
        return self._clients[1]

    @abstractmethod
    def update_mode(self, path: str, etag: str) -> PutMode:
        """How to write only over the version that `etag` names."""

    @abstractmethod
    def delete_unchanged(self, path: str, etag: str) -> None:
        """Delete the version that `etag` names in one step, or raise."""


def client_config(options: dict[str, str], cloud: str, endpoint: str) -> ClientConfig:
    """The part of the HTTP client's settings that all providers share; takes its options out of `options`."""
    allowed = options.pop("allow_http", "") or first_set(f"{cloud}_ALLOW_HTTP")
    return {
        "connect_timeout": f"{_seconds(options, 'connect_timeout', CONNECT_SECONDS)}s",
        "timeout": f"{_seconds(options, 'timeout', REQUEST_SECONDS)}s",
        "allow_http": is_true(allowed) or endpoint.startswith("http://"),
    }


def make_clients(make: Callable[[ClientConfig], Store], client: ClientConfig, how: str) -> tuple[Store, Store]:
    """The client for reading and the one for writing; `how` credentials are set is told where they make none.

    Only the one for reading gives up on silence: while a large part is being sent nothing comes back either.
    """
    try:
        return make({**client, "read_timeout": f"{SILENCE_SECONDS}s"}), make(client)
    except UnknownConfigurationKeyError as error:
        raise ShardflowError(_first_line(error), remedy="take the option out or correct its name") from None
    except (BaseError, ValueError, TypeError) as error:
        what = _first_line(error).rstrip(".")
        raise ShardflowError(
            f"the store's options do not fit together: {what}", remedy=f"correct them, or {how}"
        ) from None


def first_set(*names: str) -> str:
    """The first of some environment variables that is set and not empty."""
    return next((value for name in names if (value := os.environ.get(name, ""))), "")


def is_true(text: str) -> bool:
    """A switch in an option or an environment variable."""
    return text.lower() in ("true", "1", "yes", "on")


def _seconds(options: dict[str, str], name: str, default: int) -> int:
    text = options.pop(name, "") or str(default)
    if not text.isdecimal() or int(text) == 0:
        raise ShardflowError(f"option {name} is {text!r}", remedy="give whole seconds")
    return int(text)


def _first_line(error: Exception) -> str:
    return without_secrets(str(error).partition("\n")[0])
