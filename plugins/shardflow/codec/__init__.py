"""Lossless encodings of chunks of numbers: bytes in, bytes out; no files, no network, no threads, no store."""

from shardflow.codec.chunks import decode, encode
from shardflow.codec.encoded import MAX_BYTES, CodecId, Encoded

__all__ = ["MAX_BYTES", "CodecId", "Encoded", "decode", "encode"]
