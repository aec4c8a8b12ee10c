"""The file system for stores on this machine's disk: small files that DVC hands over at the same time go together.

DVC gives a file system either threads, one for each file, or coroutines. To write a small file takes less time than to
wake a thread, so this one says that it is made of coroutines. Larger files have threads behind them.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from shardflow.dvc import described
from shardflow.dvc.asking import Asking
from shardflow.dvc.failures import refusal
from shardflow.dvc.filesystem import StoreFileSystem
from shardflow.dvc.lacking import lacking_in
from shardflow.dvc.places import stripped, url_of
from shardflow.dvc.transferring import written_inline
from shardflow.dvc.unfetched import note
from shardflow.errors import ShardflowError
from shardflow.store.parallel import in_parallel
from shardflow.store.small import is_small, put_small
from shardflow.store.sources import FileSource, file_source
from shardflow.store.store import Store
from shardflow.transport import connect

THREADS = 32
T = TypeVar("T")


def best_together(root: str) -> int:
    """How many small files a store at this place is best handed at a time; 1 where threads do as well."""
    try:
        url = url_of(stripped(root))
        return 1 if url.is_far else connect(url).together
    except ShardflowError:
        return 1  # told by whoever uses it


@cache
def _threads(process: int) -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:  # noqa: ARG001  # a fork has none of them
    """Those of all remotes of a process: for large files, and one for small ones."""
    return (
        ThreadPoolExecutor(THREADS, thread_name_prefix="shardflow-files"),
        ThreadPoolExecutor(1, thread_name_prefix="shardflow-asked"),
    )


@dataclass(frozen=True, slots=True)
class Handed:
    """A file of this machine, there or to be, and its path in a store."""

    file: Path
    path: str


class HandedOverFileSystem(StoreFileSystem):
    """`StoreFileSystem` for those who hand over many files, as DVC does."""

    async_impl = True
    mirror_sync_methods = False  # those there are do not wait for coroutines

    def __init__(self, root: str = "", most: int = 256, **options: Any) -> None:
        """`most` is how many small files are best written at a time."""
        super().__init__(root, **options)
        self._threads, asked = _threads(os.getpid())
        self._putting: Asking[Handed, bool] = Asking(self._put_small, most, asked)
        self._getting: Asking[Handed, bool] = Asking(self._get_small, most, asked)
        self._few = asyncio.Semaphore(THREADS)  # what waits for a thread would hold up the end of the process

    async def _put_file(
        self, lpath: str, rpath: str, callback: Callback = DEFAULT_CALLBACK, mode: str = "overwrite", **_: Any
    ) -> None:
        # DVC counts files by itself, and a bar for a small one would take longer than the file.
        if mode != "overwrite" or not await self._putting.ask(Handed(Path(lpath), stripped(rpath))):
            await self._in_thread(partial(self.put_file, lpath, rpath, callback, mode))

    async def _get_file(self, rpath: str, lpath: Any, callback: Callback = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        plain = isinstance(lpath, str) and not kwargs
        try:
            if not (plain and await self._getting.ask(Handed(Path(lpath), stripped(rpath)))):
                await self._in_thread(partial(self.get_file, rpath, lpath, callback, **kwargs))
        except Exception:
            note(str(lpath))
            raise

    async def _find(self, path: str, **kwargs: Any) -> Any:
        return await self._in_thread(partial(self.find, path, **kwargs))

    def get(self, rpath: Any, lpath: Any, *args: Any, callback: Callback = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        """Fetch files; those of a list side by side."""
        if not (isinstance(rpath, list) and isinstance(lpath, list)):
            super().get(rpath, lpath, *args, callback=callback, **kwargs)
            return

        def one(pair: tuple[str, str]) -> None:
            with callback.branched(*pair) as child:
                self.get_file(*pair, callback=child)

        callback.set_size(len(rpath))
        for _ in callback.wrap(in_parallel(one, zip(rpath, lpath, strict=True))):
            pass

    async def _in_thread(self, call: Callable[[], T]) -> T:
        async with self._few:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _put_small(self, handed: list[Handed]) -> list[bool | Exception]:
        """For each whether it was small and is stored now."""
        answers: list[bool | Exception] = [False] * len(handed)
        found: dict[Store, dict[int, FileSource]] = defaultdict(dict)
        placed: dict[str, tuple[Store, str]] = {}
        for number, each in enumerate(handed):
            try:
                store, inside = self._placed(each.path, placed)
                source = file_source(each.file, inside)
            except ShardflowError:
                continue  # a directory, or what fails again by itself
            if described.is_object(inside) and is_small(store.config, source):
                found[store][number] = source
        for store, sources in found.items():
            failures = put_small(store.transport, store.config, [*sources.values()])
            for number, failure in zip(sources, failures, strict=True):
                answers[number] = True if failure is None else refusal(failure, handed[number].path)
                if failure is None:
                    lacking_in(store).forget(sources[number].path)
        return answers

    def _get_small(self, handed: list[Handed]) -> list[bool | Exception]:
        """For each whether it was small and is written now; what fails does so again by itself, and tells."""
        return [self._is_written(each) for each in handed]

    def _is_written(self, handed: Handed) -> bool:
        try:
            store, inside = self._places.to_read(handed.path)
            return written_inline(store.manifest(inside), handed.file)
        except (ShardflowError, OSError):
            return False

    def _placed(self, path: str, placed: dict[str, tuple[Store, str]]) -> tuple[Store, str]:
        """`Places.to_write`, which is asked once for all of the 256 directories that DVC has objects in."""
        if not described.is_object(path):
            return self._places.to_write(path)
        above, directory, name = path.rsplit("/", 2)
        if above not in placed:
            placed[above] = self._places.to_write(above)
        store, inside = placed[above]
        return store, f"{inside}/{directory}/{name}"
