"""Bytes without elements: one zstd frame where a sample says it pays, otherwise as they are."""

from __future__ import annotations

import numpy as np

from shardflow.codec import frames, streams
from shardflow.codec.encoded import CodecId, Encoded, as_stored
from shardflow.codec.streams import Way

_SMALLEST_SAMPLE = 16 << 10


def encode(data: memoryview) -> Encoded:
    """The smaller of a frame and the bytes themselves; what does not compress is passed on without a copy."""
    sample_size = max(_SMALLEST_SAMPLE, len(data) // 64)
    way = streams.try_ways(streams.sample(np.frombuffer(data, np.uint8), sample_size)).way
    if way is Way.RAW:
        return as_stored(data)
    frame = frames.by_huffman(data) if way is Way.HUFFMAN else frames.by_matches(data)
    if not streams.worth(len(frame), len(data)):
        return as_stored(data)
    return Encoded(CodecId.ZSTD, (frame,), len(frame))
