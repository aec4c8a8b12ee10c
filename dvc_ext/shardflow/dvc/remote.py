"""The file system that DVC finds for `shardflow://`: what DVC asks for many files at once is answered at once."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from itertools import compress
from typing import IO, Any, ClassVar

from dvc_objects.fs.base import ObjectFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from shardflow.dvc import lacking, unfetched
from shardflow.dvc.described import is_named_by_hash
from shardflow.dvc.failures import as_dvc_tells
from shardflow.dvc.filesystem import StoreFileSystem, missing
from shardflow.dvc.handed_over import HandedOverFileSystem, best_together
from shardflow.dvc.options import OPTIONS, transport_options, validators
from shardflow.dvc.places import stripped, url_of

unfetched.watch()
lacking.watch()
_logger = logging.getLogger("dvc.shardflow")

THREADS = 32
"""Files that DVC hands over at a time, unless told `jobs`: they share one writer, so more of them cost little."""


class ShardflowFileSystem(ObjectFileSystem):
    """A place in a store, or many, as DVC's remotes and external files have them."""

    protocol = "shardflow"
    REQUIRES: ClassVar[dict[str, str]] = {"shardflow-dvc": "shardflow.dvc"}
    PARAM_CHECKSUM = "etag"
    CAN_TRAVERSE = False  # no guessing how large a remote is: `exists` lists where that is cheaper
    _JOBS = THREADS

    REMOTE_CONFIG: ClassVar[dict[Any, Any]] = validators(*OPTIONS)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        if path.startswith(f"{cls.protocol}:"):
            with as_dvc_tells(path):
                url_of(stripped(path))
        return stripped(path)

    def unstrip_protocol(self, path: str) -> str:
        return f"{self.protocol}://{stripped(path)}"

    def normpath(self, path: str) -> str:
        """DVC's own takes a path for a URL, and loses what none can have: control characters, a `?` at the end."""
        scheme = f"{self.protocol}://" if path.startswith(f"{self.protocol}://") else ""
        normal: str = self.flavour.normpath(path.removeprefix(scheme))
        return scheme + normal

    @staticmethod
    def _get_kwargs_from_urls(urlpath: str) -> dict[str, Any]:
        """DVC gives the URL to nobody else: here it becomes where a first push makes the store."""
        return {"root": urlpath}

    def _prepare_credentials(self, **config: Any) -> dict[str, Any]:
        root: str = config.get("root", "")
        backend = url_of(stripped(root)).backend if root else ""
        options, variables = transport_options(backend, config)
        for name, value in variables.items():
            os.environ.setdefault(name, value)
        return {"root": root, **options}

    def __init__(self, fs: StoreFileSystem | None = None, **config: Any) -> None:
        super().__init__(fs, **config)
        self._together = best_together(config.get("root", ""))
        if self._together > 1 and not config.get("jobs"):
            self.jobs = 2 * self._together  # coroutines: the next ones get ready while the last ones are written

    @cached_property
    def fs(self) -> StoreFileSystem:
        if self._together > 1:
            return HandedOverFileSystem(most=self._together, **self.fs_args)
        return StoreFileSystem(**self.fs_args)

    def exists(  # type: ignore[override]  # the two cases in one
        self,
        path: str | list[str],
        callback: Callback = DEFAULT_CALLBACK,
        batch_size: int | None = None,  # noqa: ARG002  # DVC's threads, which one batch does not need
    ) -> bool | list[bool]:
        """For a list: which of them are files that lack nothing, in few requests."""
        if isinstance(path, str):
            return self.fs.exists(path)
        callback.set_size(len(path))
        found = self.fs.files_exist(path)
        callback.relative_update(len(path))
        return found

    def info(
        self,
        path: str | list[str],
        callback: Callback = DEFAULT_CALLBACK,
        batch_size: int | None = None,  # noqa: ARG002
        return_exceptions: bool = False,
        **_: Any,
    ) -> Any:
        """For a list: all of them, asked for at the same time. Objects that lack something are not there."""
        paths = [path] if isinstance(path, str) else path
        found = list(callback.wrap(self.fs.infos(paths)))
        objects = [is_named_by_hash(each) and isinstance(told, dict) for each, told in zip(paths, found, strict=True)]
        lost = self.fs.lacking(compress(paths, objects))
        found = [missing(each) if each in lost else told for each, told in zip(paths, found, strict=True)]
        failed = next((each for each in found if isinstance(each, Exception)), None)
        if failed is not None and not return_exceptions:
            raise failed
        return found[0] if isinstance(path, str) else found

    def get_file(self, from_info: str, to_info: str, callback: Callback = DEFAULT_CALLBACK, **kwargs: Any) -> None:
        """Fetch one file; DVC must not take what is left of a failed one for the whole."""
        try:
            super().get_file(from_info, to_info, callback=callback, **kwargs)
        except Exception:
            unfetched.note(to_info)
            raise

    def upload_fobj(self, fobj: IO[bytes], to_info: str, **_: Any) -> None:
        """Store a stream as it comes: `--to-remote` is for data that this machine has no room for."""
        self.fs.put_stream(fobj, to_info)

    def rm(self, path: str | list[str], recursive: bool = False, **kwargs: Any) -> None:
        """Remove names. A list comes from `dvc gc`, which takes any `ab/cd` below the remote for an object of DVC 2.

        Other files of the same store must not go that way.
        """
        if isinstance(path, str):
            self.fs.rm(path, recursive=recursive, **kwargs)
            return
        objects = [each for each in path if is_named_by_hash(each)]
        if len(objects) < len(path):
            others = sorted(set(path) - set(objects))
            _logger.warning("left alone %d files that are no objects of DVC, such as %s", len(others), others[0])
        self.fs.rm_files(objects)

    remove = rm
