"""From a URL, the environment and the caller's options to the backend that serves it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shardflow.errors import ShardflowError
from shardflow.transport.az import Azure
from shardflow.transport.endpoint import without_secrets
from shardflow.transport.gs import GCS
from shardflow.transport.local import LocalFiles
from shardflow.transport.memory import Memory
from shardflow.transport.objects import Objects
from shardflow.transport.s3 import S3

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shardflow.transport.backend import Backend
    from shardflow.transport.provider import Provider
    from shardflow.transport.url import StoreURL


def open_backend(url: StoreURL, options: Mapping[str, str]) -> tuple[Backend, str, str]:
    """The backend; its server, where that is not the provider's own; and how credentials for it are set."""
    if url.backend in ("file", "memory") and options:
        raise ShardflowError(f"{url.backend} stores have no options, but {', '.join(sorted(options))} was given")
    if url.backend == "file":
        return LocalFiles(Path(url.path), durable=durable()), "", ""
    provider = _provider(url, options)
    return Objects(provider, url.prefix), without_secrets(provider.endpoint), provider.credentials


def _provider(url: StoreURL, options: Mapping[str, str]) -> Provider[Any]:
    if url.backend == "s3":
        return S3(url.bucket, options)
    if url.backend == "gs":
        return GCS(url.bucket, options)
    if url.backend == "az":
        return Azure(url.bucket, options)
    return Memory(url.bucket)


def durable() -> bool:
    """Whether files are forced to the disk before a write returns; SHARDFLOW_FSYNC=0 trades that for speed."""
    text = os.environ.get("SHARDFLOW_FSYNC", "1")
    if text not in ("0", "1"):
        raise ShardflowError(f"SHARDFLOW_FSYNC is {text!r}", remedy="set it to 0 or 1")
    return text == "1"
