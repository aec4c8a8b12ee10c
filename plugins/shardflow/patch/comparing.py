"""What differs between two versions of a model, tensor by tensor, and how much leads from one to the other."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from shardflow import codec
from shardflow.delta.adapters import Adapter
from shardflow.delta.matching import Match, Matches
from shardflow.delta.pairing import pairs
from shardflow.delta.predicting import Predictor
from shardflow.layout import Layout, Segment
from shardflow.patch.files import OpenFile, check_readable, one_or_all, opened
from shardflow.store.cutting import plan

CHUNK_BYTES = 4 << 20

Status = Literal["equal", "changed", "added", "removed"]


@dataclass(frozen=True, slots=True)
class TensorChange:
    """One tensor, before and after."""

    name: str
    status: Status
    dtype: str
    shape: tuple[int, ...]
    size: int  # bytes, of the newer one if there is one
    was: str | None = None  # its name before, where that was another
    dtype_was: str | None = None
    changed: float | None = None  # share of elements that differ; None where they cannot be held side by side
    stored: int = 0  # bytes that lead from the older to the newer
    kind: str = ""  # how: delta, cast or lowrank; or the encoding of what stands by itself


@dataclass(frozen=True, slots=True)
class Comparison:
    """All tensors of two versions, and the files without any."""

    tensors: tuple[TensorChange, ...]
    other_files: dict[str, Status]

    @property
    def counts(self) -> dict[str, int]:
        found = Counter(tensor.status for tensor in self.tensors)
        return {status: found[status] for status in ("equal", "changed", "added", "removed")}

    @property
    def renamed(self) -> int:
        """How many tensors have another name than before, whether their values changed or not."""
        return sum(tensor.was is not None for tensor in self.tensors)

    @property
    def equal(self) -> bool:
        statuses = {tensor.status for tensor in self.tensors} | set(self.other_files.values())
        return statuses <= {"equal"} and not self.renamed

    def as_dict(self) -> dict[str, Any]:
        kept = [tensor for tensor in self.tensors if tensor.status != "removed"]
        return {
            "counts": self.counts,
            "renamed": self.renamed,
            "equal": self.equal,
            "bytes": sum(tensor.size for tensor in kept),
            "delta_bytes": sum(tensor.stored for tensor in kept),
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "other_files": self.other_files,
        }


def compare(older: str | Path, newer: str | Path, adapter: str | Path | None = None) -> Comparison:
    """Compare two files, or all files below two directories; each may be on disk or in a store."""
    merged = Adapter(adapter) if adapter is not None else None
    for place in (older, newer):
        check_readable(place)
    with opened(older) as before, opened(newer) as after:
        return _Comparing(one_or_all(before, older), one_or_all(after, newer), merged).run()


def older_file_of(file: OpenFile, before: list[OpenFile]) -> OpenFile | None:
    """The file that another one was: the one of its name, or the one with most of its tensors."""
    if len(before) == 1:
        return before[0]
    same = next((old for old in before if old.name == file.name), None)
    if same is not None or file.layout.fingerprint is None:
        return same
    names = {segment.name for segment in file.layout.segments if segment.name}
    shared = {n: len(names & {segment.name for segment in old.layout.segments}) for n, old in enumerate(before)}
    best = max(shared, key=lambda n: shared[n], default=None)
    return before[best] if best is not None and shared[best] else None


class _Comparing:
    """The state of one comparison."""

    def __init__(self, before: list[OpenFile], after: list[OpenFile], adapter: Adapter | None) -> None:
        self._before = before
        self._after = after
        self._adapter = adapter

    def run(self) -> Comparison:
        tensors: list[TensorChange] = []
        found: set[tuple[int, int]] = set()
        with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="shardflow-diff") as pool:
            for file in self._after:
                compared = self._assigned(file)
                tensors += pool.map(lambda index, by=compared: by[index].tensor(index), compared)
                found |= {(id(one.old), one.pairs[n]) for n, one in compared.items() if n in one.pairs}
        for old in self._before:
            tensors += [_removed(old, index) for index in _tensors(old.layout) if (id(old), index) not in found]
        return Comparison(tuple(tensors), self._other_files())

    def _assigned(self, file: OpenFile) -> dict[int, _OneFile]:
        """What each tensor of a file is compared in: where the older file lacks its name, another that has it."""
        main = _OneFile(file, older_file_of(file, self._before), self._adapter)
        compared = dict.fromkeys(main.indices(), main)
        for old in self._before:
            names = {old.layout.segments[index].name for index in _tensors(old.layout)}
            astray = [n for n, one in compared.items() if not one.has_by_name(n)]
            if old is not main.old and any(file.layout.segments[n].name in names for n in astray):
                other = _OneFile(file, old, self._adapter)
                compared |= {n: other for n in astray if other.has_by_name(n)}
        return compared

    def _other_files(self) -> dict[str, Status]:
        before = {file.name: file for file in self._before if not list(_tensors(file.layout))}
        after = {file.name: file for file in self._after if not list(_tensors(file.layout))}
        status: dict[str, Status] = {}
        for name in sorted(before.keys() | after.keys()):
            if name not in before or name not in after:
                status[name] = "added" if name in after else "removed"
            else:
                status[name] = "equal" if _same_bytes(before[name], after[name]) else "changed"
        return status


class _OneFile:
    """One newer file and the older one that it is compared with."""

    def __init__(self, file: OpenFile, old: OpenFile | None, adapter: Adapter | None) -> None:
        self.file = file
        self.old = old
        self.pairs: dict[int, int] = {}
        self._predictor: Predictor | None = None
        if old is not None:
            self.pairs = pairs(file.layout, old.layout, file.read_at, old.read_at)
            self._matches = Matches(file.layout, old.layout, self.pairs)
            self._predictor = Predictor(file.layout, file.read_at, old, adapter=adapter)

    def indices(self) -> list[int]:
        return list(_tensors(self.file.layout))

    def has_by_name(self, index: int) -> bool:
        if self.old is None or index not in self.pairs:
            return False
        return self.old.layout.segments[self.pairs[index]].name == self.file.layout.segments[index].name

    def tensor(self, index: int) -> TensorChange:
        """What became of one tensor, chunk by chunk."""
        segment = self.file.layout.segments[index]
        match = self._matches.whole(index) if index in self.pairs else None
        tally = _Tally()
        for start, end in chunks_of(segment):
            self._add(tally, match, segment, start, end)
        if match is not None and (match.is_cast or match.old.shape != segment.shape):
            tally.differs = True  # fewer rows, or none, may hold nothing that is new
        return TensorChange(
            name=segment.name,
            status="added" if match is None else "changed" if tally.differs else "equal",
            dtype=segment.dtype.name,
            shape=segment.shape,
            size=segment.length,
            was=match.old.name if match and match.old.name != segment.name else None,
            dtype_was=match.old.dtype.name if match and match.is_cast else None,
            changed=tally.share_changed if match and not match.is_cast else None,
            stored=tally.stored,
            kind=tally.kind if match is None or tally.differs else "",
        )

    def _add(self, tally: _Tally, match: Match | None, segment: Segment, start: int, end: int) -> None:
        data = self.file.exactly(start, end - start)
        if match is not None and self.old is not None and not match.is_cast:
            before = self.old.read_at(match.old_start + start - segment.offset, end - start)
            before = before[: max(0, match.old_end - match.old_start - (start - segment.offset))]
            tally.compare(data, before, segment.dtype.width)
            if before == data:
                return
        tally.differs = True
        attempts = self._predictor.attempts(start, end, memoryview(data)) if self._predictor and match else []
        chosen = codec.encode_against(data, segment.dtype, [attempt.prediction for attempt in attempts])
        made = next((each.bases for each in attempts if each.prediction is chosen.prediction), ())
        tally.add(chosen.encoded, {bytes(piece.data) for piece in made if piece.key is None})


class _Tally:
    """Sums over the chunks of a tensor."""

    def __init__(self) -> None:
        self.stored = 0
        self.differs = False
        self._kinds: Counter[str] = Counter()
        self._made: set[bytes] = set()
        self._elements = self._changed = 0

    def compare(self, data: bytes, before: bytes, width: int) -> None:
        common = min(len(data), len(before))
        words = [np.frombuffer(each[:common], np.uint8).reshape(-1, width) for each in (data, before)]
        self._changed += int((words[0] != words[1]).any(axis=1).sum()) + (len(data) - common) // width
        self._elements += len(data) // width

    def add(self, encoded: codec.Encoded, made: set[bytes]) -> None:
        self.stored += encoded.size + sum(len(chunk) for chunk in made - self._made)
        self._made |= made
        self._kinds[encoded.codec.name.lower()] += encoded.size + 1

    @property
    def share_changed(self) -> float | None:
        return self._changed / self._elements if self._elements else None

    @property
    def kind(self) -> str:
        return self._kinds.most_common(1)[0][0] if self._kinds else ""


def chunks_of(segment: Segment) -> Iterator[tuple[int, int]]:
    """Where the chunks of a tensor begin and end, cut as a store cuts them."""
    start = segment.offset
    for run in plan(Layout("", (segment,), None), CHUNK_BYTES, CHUNK_BYTES):
        yield start, start + run.length
        start += run.length


def _tensors(layout: Layout) -> Iterator[int]:
    return (index for index, segment in enumerate(layout.segments) if segment.name)


def _removed(file: OpenFile, index: int) -> TensorChange:
    segment = file.layout.segments[index]
    return TensorChange(segment.name, "removed", segment.dtype.name, segment.shape, segment.length)


def _same_bytes(one: OpenFile, other: OpenFile) -> bool:
    return one.size == other.size and all(a == b for a, b in zip(one.blocks(), other.blocks(), strict=True))
