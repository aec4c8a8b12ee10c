"""A file that is being written through fsspec: collected on this machine's disk, stored when it is closed."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from typing_extensions import Buffer

from shardflow.store.placing import told

BLOCK_BYTES = 1 << 20


class NewFile(io.BufferedIOBase):
    """Nothing is stored before `close`, and nothing at all if the `with` block that writes it fails."""

    blocksize = BLOCK_BYTES

    def __init__(self, store: Callable[[Path], None], *, autocommit: bool) -> None:
        super().__init__()
        self._store = store
        self._autocommit = autocommit
        self._discarded = False
        # A file with a name: what is stored is read from several places at once.
        self._file = tempfile.NamedTemporaryFile(prefix="shardflow-", buffering=BLOCK_BYTES)  # noqa: SIM115

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, data: Buffer) -> int:
        with told(Path(self._file.name)):
            return self._file.write(data)

    def close(self) -> None:
        """Store what was written, unless a transaction is to say when."""
        if self.closed:
            return
        try:
            if self._autocommit:
                self.commit()
        finally:
            super().close()

    def commit(self) -> None:
        """Store what was written; fsspec's transactions call it at their end."""
        if self._discarded:
            return
        try:
            with told(Path(self._file.name)):
                self._file.flush()
            self._store(Path(self._file.name))
        finally:
            self._file.close()

    def discard(self) -> None:
        """Forget what was written."""
        self._discarded = True
        self._file.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self.discard()
        self.close()
