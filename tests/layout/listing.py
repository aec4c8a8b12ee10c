"""Look at bytes the way the store does, and check what every layout must be."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from shardflow.dtype import DType
from shardflow.layout import Layout, inspect

if TYPE_CHECKING:
    from collections.abc import Callable

Listing = list[tuple[str, DType, tuple[int, ...], bytes]]


def reader_of(data: bytes) -> Callable[[int, int], bytes]:
    """A `read_at` that refuses what a careful caller never asks for."""

    def read_at(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(data)
        return data[offset : offset + length]

    return read_at


def layout_of(data: bytes) -> Layout:
    """The layout of these bytes, checked for what holds for every file, however damaged."""
    layout = inspect(reader_of(data), len(data))
    end = 0
    for segment in layout.segments:
        assert segment.offset == end
        assert segment.length > 0
        end += segment.length
        if segment.dtype is not DType.BYTES:
            assert segment.name
            assert prod(segment.shape) * segment.dtype.width == segment.length
    assert end == len(data)
    names = [segment.name for segment in layout.segments if segment.name]
    assert len(set(names)) == len(names)
    return layout


def tensors_in(data: bytes) -> Listing:
    """Name, dtype, shape in memory and content of everything that has a name."""
    return [
        (at.name, at.dtype, at.shape, data[at.offset : at.offset + at.length])
        for at in layout_of(data).segments
        if at.name
    ]
