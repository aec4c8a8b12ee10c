"""A place in a store as DVC's own tests want it: a path that can be written and looked at without DVC."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from dvc.testing.cloud import Cloud
from dvc.testing.path_info import CloudURLInfo

from shardflow.dvc.filesystem import StoreFileSystem
from shardflow.dvc.options import transport_options


class StoredCloud(Cloud, CloudURLInfo):  # type: ignore[misc]
    """A `shardflow://` URL, with the options of the remote that it is."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        super().__init__(url)
        self._options = dict(options or {})

    def __truediv__(self, key: str) -> StoredCloud:
        below: StoredCloud = super().__truediv__(key)
        below._options = self._options
        return below

    def replace(self, path: object = None) -> StoredCloud:
        other: StoredCloud = super().replace(path)
        other._options = self._options
        return other

    @property
    def config(self) -> dict[str, str]:
        return {"url": self.url, **self._options}

    @property
    def fs_path(self) -> str:
        return self.url.removeprefix("shardflow://")

    @cached_property
    def _fs(self) -> StoreFileSystem:
        options, _ = transport_options(self.netloc, self._options)
        return StoreFileSystem(skip_instance_cache=True, **options)

    def is_file(self) -> bool:
        return self._fs.isfile(self.url)

    def is_dir(self) -> bool:
        return self._fs.isdir(self.url)

    def exists(self) -> bool:
        return self._fs.exists(self.url)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        self._fs.makedirs(self.url, exist_ok=exist_ok)

    def write_bytes(self, contents: bytes) -> None:
        self._fs.pipe_file(self.url, contents)

    def read_bytes(self) -> bytes:
        data: bytes = self._fs.cat_file(self.url)
        return data

    def unlink(self, missing_ok: bool = False) -> None:
        if not missing_ok or self.is_file():
            self._fs.rm_file(self.url)

    def rmdir(self, recursive: bool = True) -> None:
        self._fs.rm(self.url, recursive=recursive)
