"""Makes a patch: everything of the newer version that the older one does not hold, proven before it is kept."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from blake3 import blake3
from typing_extensions import Buffer

from shardflow.delta.adapters import Adapter
from shardflow.delta.choosing import Predictors
from shardflow.delta.predicting import Predictor
from shardflow.dtype import DType
from shardflow.errors import ShardflowError
from shardflow.patch.comparing import CHUNK_BYTES, older_file_of
from shardflow.patch.files import OpenFile, check_readable, one_or_all, opened
from shardflow.patch.format import COPY, MAGIC, Directory, NewFile, OldFile, Row, write_directory
from shardflow.store.coding import Against, BlockEncoder, Coded, Made
from shardflow.store.cutting import plan
from shardflow.store.errors import PathTaken, SourceChanged
from shardflow.store.gear import MAXIMUM, Gear
from shardflow.store.placing import told
from shardflow.store.reading import Block, Buffers, blocks


@dataclass(frozen=True, slots=True)
class Created:
    """What a patch came to."""

    files: int
    old_bytes: int
    new_bytes: int
    copied_bytes: int  # of the newer version: lie in the older one as they are
    on_bases_bytes: int  # of the newer version: by how they differ from the older one
    patch_bytes: int


def create(older: str | Path, newer: str | Path, patch: str | Path, adapter: str | Path | None = None) -> Created:
    """Write the patch that leads from one file or directory to another; it is there whole or not at all."""
    merged = Adapter(adapter) if adapter is not None else None
    for place in (older, newer):
        check_readable(place)
    target = Path(patch)
    _check_apart(target, older, newer)
    partial = target.with_name(f".{target.name}.shardflow-{secrets.token_hex(6)}.part")
    with opened(older) as before, opened(newer) as after:
        try:
            with told(target), partial.open("xb") as file:
                made = _Patch(file, one_or_all(before, older), one_or_all(after, newer), merged).write()
                for each in (*before, *after):
                    each.check_unchanged()  # or the patch would lead to, or from, what never was
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            with told(target):
                partial.replace(target)
        finally:
            with suppress(OSError):
                partial.unlink()
    return Created(len(after), sum(f.size for f in before), sum(f.size for f in after), *made, size)


class _Patch:
    """The state of one patch being made."""

    def __init__(self, out: BinaryIO, before: list[OpenFile], after: list[OpenFile], adapter: Adapter | None) -> None:
        self._out = out
        self._before = before
        self._after = after
        self._adapter = adapter
        self._gear = Gear()
        self._buffers = Buffers(self._gear.maximum)
        self._rows: list[Row] = []
        self._known: dict[bytes, int] = {}  # rows by digest
        self._old_chunks: dict[bytes, tuple[int, int]] = {}  # file and offset
        self._copied = self._on_bases = 0
        self._end = 0

    def write(self) -> tuple[int, int]:
        self._put(MAGIC)
        old = tuple(self._take_up(number, file) for number, file in enumerate(self._before))
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="shardflow-patch") as pool:
            new = tuple(self._add(file, pool) for file in self._after)
        single = [file.name for file in [*self._before, *self._after]] == ["", ""]
        write_directory(self._out, Directory(old, new, tuple(self._rows), single))
        return self._copied, self._on_bases

    def _take_up(self, number: int, file: OpenFile) -> OldFile:
        """Digest an older file, and remember its chunks."""
        whole, start = blake3(), 0
        for block in self._blocks(file):
            for span in block.spans:
                chunk = blake3(block.data[span.start : span.end]).digest()
                self._old_chunks.setdefault(chunk, (number, start + span.start))
            whole.update(block.data)
            start += len(block.data)
            self._buffers.give(block.buffer)
        return OldFile(_storable(file.name), _whole(file, start), whole.digest())

    def _add(self, file: OpenFile, pool: ThreadPoolExecutor) -> NewFile:
        old = older_file_of(file, self._before)
        against = self._against(file, old) if old is not None and file.layout.fingerprint else None
        whole, start, rows = blake3(), 0, []
        for block in self._blocks(file):
            encoder = BlockEncoder(against)
            spans = [(block.data[span.start : span.end], span.dtype, start + span.start) for span in block.spans]
            coded = pool.map(lambda span, encoder=encoder: self._coded(encoder, *span), spans)
            for (data, _, _), (chunk, known) in zip(spans, coded, strict=True):
                rows.append(self._place(chunk, len(data), known, old))
            whole.update(block.data)
            start += len(block.data)
            self._buffers.give(block.buffer)
        return NewFile(_storable(file.name), _whole(file, start), whole.digest(), tuple(rows))

    def _against(self, file: OpenFile, old: OpenFile) -> Against:
        return Against(
            lambda: Predictors([Predictor(file.layout, file.read_at, old, adapter=self._adapter)]), required=True
        )

    def _coded(self, encoder: BlockEncoder, data: memoryview, dtype: DType, start: int) -> tuple[bytes, Coded | None]:
        chunk = blake3(data).digest()
        known = chunk in self._known or chunk in self._old_chunks
        return chunk, None if known else encoder.encode(data, dtype, start)

    def _place(self, chunk: bytes, size: int, coded: Coded | None, old: OpenFile | None) -> int:
        if chunk in self._old_chunks:
            self._copied += size
        if chunk in self._known:
            return self._known[chunk]
        if chunk in self._old_chunks:
            number, offset = self._old_chunks[chunk]
            return self._row(Row(chunk, size, COPY, offset, 0, number))
        assert coded is not None
        bases = tuple(self._base(base, old) for base in coded.bases)
        self._on_bases += size if bases else 0
        offset = self._end
        for part in coded.encoded.parts:
            self._put(part)
        return self._row(Row(chunk, size, int(coded.encoded.codec), offset, coded.encoded.size, bases=bases))

    def _base(self, base: int | Made, old: OpenFile | None) -> tuple[int, int, int]:
        if isinstance(base, Made):
            row = self._known.get(base.chunk)
            if row is None:
                row = self._place(base.chunk, base.size, Coded(base.encoded), None)
            return -1, row, 0
        assert old is not None
        return self._before.index(old), *old.runs[base]

    def _row(self, row: Row) -> int:
        self._rows.append(row)
        self._known[row.digest] = len(self._rows) - 1
        return len(self._rows) - 1

    def _put(self, data: Buffer) -> None:
        self._out.write(data)
        self._end += memoryview(data).nbytes

    def _blocks(self, file: OpenFile) -> Iterator[Block]:
        return blocks(file.in_order(), plan(file.layout, CHUNK_BYTES, MAXIMUM), self._gear, self._buffers)


def _check_apart(target: Path, *places: str | Path) -> None:
    with told(target):
        there = target.exists()
    for place in places:
        if there and "://" not in str(place) and target.samefile(place):
            raise PathTaken(f"{target} is what the patch is made of", remedy="name another file for the patch")


def _whole(file: OpenFile, read: int) -> int:
    if read != file.size:
        raise SourceChanged(f"{file.name or 'the file'} changed while it was read", remedy="begin again")
    return read


def _storable(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ShardflowError(f"{name!r} is no text that a patch can hold", remedy="rename the file") from None
    return name
