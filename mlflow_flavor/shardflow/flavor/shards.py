"""A safetensors file that exists nowhere: its header, then tensors where they are, read as one stream of bytes."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from typing_extensions import Buffer

from shardflow.flavor.contents import Content, TensorContent
from shardflow.flavor.header import in_file_order, made_header
from shardflow.flavor.plans import Plan, Shard
from shardflow.layout import ReadAt

METADATA = {"format": "pt"}  # transformers opens no file without it


@dataclass(frozen=True, slots=True)
class ShardSource:
    """One file of a model as a store takes it; what it reads is never in memory a second time."""

    path: str
    header: bytes
    starts: tuple[int, ...]  # of the tensors in the file
    contents: tuple[Content, ...]
    length: int

    @property
    def name(self) -> str:
        return self.path

    @property
    def size(self) -> int:
        return self.length

    def open(self) -> io.RawIOBase:
        return _Opened(self)

    def random_access(self, _: io.RawIOBase, /) -> ReadAt:
        return self.read_at

    def check_unchanged(self, _: io.RawIOBase, read: int, /) -> None:
        for content in self.contents:
            content.check_unchanged()
        assert read == self.length

    def read_at(self, offset: int, length: int) -> bytes:
        data = bytearray(max(0, min(length, self.length - offset)))
        self.read_into(offset, memoryview(data))
        return bytes(data)

    def view(self, offset: int, length: int) -> memoryview | None:
        """Bytes of one tensor without a copy, where it is in memory; None for all others."""
        index = bisect_right(self.starts, offset) - 1
        if index < 0:
            return None
        content, start = self.contents[index], offset - self.starts[index]
        return content.view(start, length) if isinstance(content, TensorContent) else None

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` from `offset`; the file has that much."""
        begin = min(len(target), max(0, len(self.header) - offset))
        target[:begin] = self.header[offset : offset + begin]
        while begin < len(target):
            index = bisect_right(self.starts, offset + begin) - 1
            stop = self.starts[index + 1] if index + 1 < len(self.starts) else self.length
            end = min(len(target), stop - offset)
            self.contents[index].read_into(offset + begin - self.starts[index], target[begin:end])
            begin = end


def shard_sources(
    plan: Plan, contents: Mapping[str, Content], directory: str = "", metadata: Mapping[str, str] = METADATA
) -> Iterator[ShardSource]:
    """The files of a plan, below a directory of the store; `metadata` are texts that each of them has."""
    for shard in plan.shards:
        path = f"{directory}/{shard.file}" if directory else shard.file
        yield _source(shard, plan.aliases, contents, path, metadata)


def _source(
    shard: Shard, aliases: Mapping[str, str], contents: Mapping[str, Content], path: str, metadata: Mapping[str, str]
) -> ShardSource:
    tensors = in_file_order(shard.tensors)
    names = {tensor.name for tensor in tensors}
    tied = {alias: kept for alias, kept in aliases.items() if kept in names}
    header = made_header(tensors, {**metadata, **tied})
    starts, end = [], len(header)
    for tensor in tensors:
        starts.append(end)
        end += tensor.size
    return ShardSource(path, header, tuple(starts), tuple(contents[tensor.name] for tensor in tensors), end)


class _Opened(io.RawIOBase):
    """A shard read from start to end."""

    def __init__(self, source: ShardSource) -> None:
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, target: Buffer) -> int:
        view = memoryview(target).cast("B")[: self._source.length - self._position]
        self._source.read_into(self._position, view)
        self._position += len(view)
        return len(view)
