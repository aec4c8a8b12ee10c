"""What a test knows about a running server: where it is, how to reach it, how to make a bucket in it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class ServerFailed(Exception):
    """A server was installed but did not come up; the text ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Service:
    """A running server, as a client sees it."""

    name: str
    backend: str
    """The word after `shardflow://`: s3, gs or az."""
    endpoint: str
    options: Mapping[str, str]
    """What `shardflow.transport.connect` needs besides the URL."""
    env: Mapping[str, str]
    """The same as environment variables, for a command in its own process, named as in each cloud's own SDK."""
    make_bucket: Callable[[str], None]
    """Makes a bucket (a container on Azure). Goes to the server itself, also when the endpoint is a proxy's."""
    log: Path
    """What the server itself has to say; the end of it goes into the report of a test that failed."""

    @property
    def host_and_port(self) -> str:
        return self.endpoint.split("/")[2]

    def url_for(self, bucket: str, prefix: str = "") -> str:
        """The shardflow URL of a bucket, or of a place in it."""
        return "/".join(part for part in (f"shardflow://{self.backend}", bucket, prefix) if part)

    def seen_at(self, host_and_port: str) -> Service:
        """The same server reached at another address, a proxy's for instance."""
        own = self.host_and_port
        return dataclasses.replace(
            self,
            endpoint=self.endpoint.replace(own, host_and_port),
            options={name: value.replace(own, host_and_port) for name, value in self.options.items()},
            env={name: value.replace(own, host_and_port) for name, value in self.env.items()},
        )
