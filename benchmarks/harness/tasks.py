"""The work a child does: `python -m harness.tasks NAME PARAMETERS`, answered by one line of JSON.

A task gets ready first (imports, clients, the store's configuration); what it returns then is the operation to time.
Credentials and endpoints come from the environment, for Shardflow as for boto3.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boto3.s3.transfer import TransferConfig

Operation = Callable[[], dict[str, Any]]
PIECE = 1 << 20


def put(source: str, url: str) -> Operation:
    """Shardflow's put."""
    from shardflow.store.store import Store

    store, path = Store.find(url)
    return lambda: store.put(source, path).as_dict()


def get(url: str, target: str) -> Operation:
    """Shardflow's get."""
    from shardflow.store.store import Store

    store, path = Store.find(url)
    return lambda: store.get(path, target).as_dict()


def boto_put(source: str, bucket: str, key: str, connections: int | None = None) -> Operation:
    """boto3's managed upload, with its defaults unless told a number of connections."""
    client, config = _boto(connections)
    return lambda: _nothing(client.upload_file(source, bucket, key, Config=config))


def boto_get(bucket: str, key: str, target: str, connections: int | None = None) -> Operation:
    """boto3's managed download."""
    client, config = _boto(connections)
    return lambda: _nothing(client.download_file(bucket, key, target, Config=config))


def single_put(source: str, bucket: str, key: str) -> Operation:
    """One PUT request with the whole file in it: the best a single connection can do."""
    client, _ = _boto(1)

    def upload() -> dict[str, Any]:
        with Path(source).open("rb") as file:
            client.put_object(Bucket=bucket, Key=key, Body=file)
        return {}

    return upload


def single_get(bucket: str, key: str, target: str) -> Operation:
    """One GET request for the whole object."""
    client, _ = _boto(1)

    def download() -> dict[str, Any]:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        with Path(target).open("wb") as file:
            file.writelines(body.iter_chunks(PIECE))
        return {}

    return download


def boto_put_tree(source: str, bucket: str, prefix: str, threads: int) -> Operation:
    """Every file of a directory uploaded under its own key, by a pool of threads."""
    client, _ = _boto(threads)
    files = sorted(path for path in Path(source).rglob("*") if path.is_file())

    def upload(file: Path) -> None:
        client.upload_file(str(file), bucket, f"{prefix}/{file.relative_to(source)}")

    return lambda: _in_threads(upload, files, threads)


def boto_get_tree(bucket: str, prefix: str, target: str, threads: int) -> Operation:
    """Everything below a prefix downloaded, by a pool of threads."""
    client, _ = _boto(threads)

    def download(key: str) -> None:
        file = Path(target) / key.removeprefix(f"{prefix}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(bucket, key, str(file))

    def listed_and_downloaded() -> dict[str, Any]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return _in_threads(download, keys, threads)

    return listed_and_downloaded


TASKS: dict[str, Callable[..., Operation]] = {
    task.__name__: task for task in (put, get, boto_put, boto_get, single_put, single_get, boto_put_tree, boto_get_tree)
}


def _boto(connections: int | None) -> tuple[Any, TransferConfig]:
    import boto3
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config

    if connections is None:
        return boto3.client("s3"), TransferConfig()
    config = TransferConfig(max_concurrency=connections, use_threads=connections > 1)
    return boto3.client("s3", config=Config(max_pool_connections=connections)), config


def _in_threads(work: Callable[[Any], None], items: list[Any], threads: int) -> dict[str, Any]:
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass
    return {"objects": len(items)}


def _nothing(_: object) -> dict[str, Any]:
    return {}


def peak_bytes() -> int:
    """The most memory this process had resident at once."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0]) * 1024 if found else 0


def main() -> None:
    operation = TASKS[sys.argv[1]](**json.loads(sys.argv[2]))
    began, used = time.perf_counter(), time.process_time()
    result = operation()
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu, "peak_bytes": peak_bytes(), "result": result}))


if __name__ == "__main__":
    main()
