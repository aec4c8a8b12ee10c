"""Write GGUF files byte for byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """A tensor; `shape` in the order of the file, fastest first."""

    name: str
    shape: tuple[int, ...]
    kind: int
    content: bytes
    offset: int | None = None


def string(text: str | bytes) -> bytes:
    encoded = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(encoded)) + encoded


def number(key: str, value: int) -> bytes:
    return string(key) + struct.pack("<II", 4, value)


def words(key: str, values: list[str]) -> bytes:
    return string(key) + struct.pack("<IIQ", 9, 8, len(values)) + b"".join(map(string, values))


METADATA = (
    string("general.architecture") + struct.pack("<I", 8) + string("llama"),
    words("tokenizer.ggml.tokens", ["<s>", "", "word"]),
    string("tokenizer.ggml.scores") + struct.pack("<IIQ3f", 9, 6, 3, 0.0, 1.0, 2.0),
    string("nested") + struct.pack("<IIQ", 9, 9, 2) + struct.pack("<IQ2B", 0, 2, 1, 2) + struct.pack("<IQ", 8, 0),
    string("flag") + struct.pack("<IB", 7, 1),
    string("big") + struct.pack("<IQ", 10, 1 << 60),
)


def gguf_of(
    tensors: list[Kept],
    metadata: tuple[bytes, ...] = METADATA,
    version: int = 3,
    alignment: int = 32,
    claims: tuple[int, int] | None = None,
) -> bytes:
    """A file; `claims` overrides the counts of tensors and of metadata."""
    header = b"GGUF" + struct.pack("<IQQ", version, *(claims or (len(tensors), len(metadata)))) + b"".join(metadata)
    body = b""
    for tensor in tensors:
        offset = len(body) if tensor.offset is None else tensor.offset
        dimensions = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
        header += string(tensor.name) + dimensions + struct.pack("<IQ", tensor.kind, offset)
        body += tensor.content + bytes(-len(tensor.content) % alignment)
    return header + bytes(-len(header) % alignment) + body
