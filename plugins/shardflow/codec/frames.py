"""Zstandard frames: two ways to write them, one careful way to read them."""

from __future__ import annotations

import threading

import zstandard

from shardflow.errors import CorruptData

_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_WINDOW = 8 << 20  # what a stream that is read piece by piece may ask for; ours need at most 2 MiB

# The corner of zstd that looks for no matches worth mentioning and leaves its Huffman coder, at full speed.
_HUFFMAN = zstandard.ZstdCompressionParameters(
    window_log=17,
    hash_log=6,
    chain_log=6,
    min_match=7,
    strategy=zstandard.STRATEGY_FAST,
    write_content_size=True,
    write_checksum=False,
    write_dict_id=False,
)


class _Contexts(threading.local):
    """Zstandard's contexts are expensive to make and serve one thread at a time."""

    def __init__(self) -> None:
        self.huffman = zstandard.ZstdCompressor(compression_params=_HUFFMAN)
        self.matches = zstandard.ZstdCompressor(
            level=3, write_content_size=True, write_checksum=False, write_dict_id=False
        )
        self.reader = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)


_contexts = _Contexts()


def by_huffman(data: memoryview) -> bytes:
    """A frame that uses the frequencies of single bytes only: fast, and all there is in an exponent."""
    return _contexts.huffman.compress(data)


def by_matches(data: memoryview) -> bytes:
    """A frame of zstd level 3, which also finds repetitions."""
    return _contexts.matches.compress(data)


def read_frame(stored: memoryview, out: memoryview) -> None:
    """Decompress exactly one frame that declares exactly `len(out)` bytes, straight into `out`."""
    try:
        _check_header(stored, len(out))
        # With the whole frame and the whole target at hand, zstd decodes in one pass without a window of its own.
        with _contexts.reader.stream_reader(stored) as reader:
            read = reader.readinto(out)
    except zstandard.ZstdError as error:
        raise CorruptData(f"a compressed stream of {len(stored)} bytes does not decode: {error}") from error
    if read != len(out):
        raise CorruptData(f"a compressed stream holds {read} bytes where {len(out)} belong")


def _check_header(stored: memoryview, size: int) -> None:
    if stored[:4] != _MAGIC:
        raise CorruptData("a compressed stream does not begin with a zstd frame")
    header = zstandard.get_frame_parameters(stored)
    if header.content_size != size:
        raise CorruptData(f"a compressed stream declares {header.content_size} bytes where {size} belong")
    if header.window_size > max(_MAX_WINDOW, size) or header.dict_id:
        raise CorruptData("a compressed stream asks for a window or a dictionary that was never used in writing")
