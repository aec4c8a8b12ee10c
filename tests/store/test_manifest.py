"""A manifest comes back as it was written, or is refused with its name: every flipped bit and every lie is noticed."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.store.errors import FormatUnknown, ManifestDamaged
from shardflow.store.manifest import (
    MAGIC,
    MAX_BODY_BYTES,
    ChunkTable,
    Manifest,
    decode_manifest,
    empty_table,
    encode_manifest,
)
from shardflow.store.pack import HEAD_BYTES, MAX_CHUNK_BYTES
from store.samples import flipped, manifest_from_the_future, named, noise

Body = dict[str, Any]


def column(values: list[int], dtype: type = np.uint32) -> Any:
    return np.asarray(values, dtype)


def table_of(rows: list[tuple[int, int, int, int, int, tuple[int, ...]]], packs: int) -> ChunkTable:
    """Rows of pack, offset, stored, size, codec and bases."""
    pack, offset, stored, size, codec, bases = (list(values) for values in zip(*rows, strict=True))
    return ChunkTable(
        tuple(named(b"pack %d" % number) for number in range(packs)),
        np.frombuffer(b"".join(named(b"chunk %d" % row) for row in range(len(rows))), np.uint8).reshape(-1, 32),
        column(pack),
        column(offset),
        column(stored),
        column(size),
        column(codec, np.uint8),
        column([len(of_row) for of_row in bases], np.uint8),
        column([base for of_row in bases for base in of_row]),
    )


@st.composite
def tables(draw: st.DrawFn) -> ChunkTable:
    packs = draw(st.integers(1, 4))
    rows = []
    for row in range(draw(st.integers(1, 12))):
        bases = draw(st.lists(st.integers(0, row - 1), max_size=3)) if row else []
        rows.append(
            (
                draw(st.integers(0, packs - 1)),
                draw(st.integers(HEAD_BYTES, 2**32 - 1)),
                draw(st.integers(0, MAX_CHUNK_BYTES)),
                draw(st.integers(0, MAX_CHUNK_BYTES)),
                draw(st.integers(0, 255)),
                tuple(bases),
            )
        )
    return table_of(rows, packs)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    table = draw(tables())
    sequence = column(draw(st.lists(st.integers(0, len(table) - 1), max_size=30)))
    return Manifest(
        size=int(table.size[sequence].sum()),
        digest=draw(st.binary(min_size=32, max_size=32)),
        created=draw(st.floats(0, 1e10)),
        layout=draw(st.text(max_size=10)),
        features=tuple(draw(st.lists(st.text(max_size=10), max_size=3))),
        md5=draw(st.none() | st.binary(min_size=16, max_size=16)),
        sha256=draw(st.none() | st.binary(min_size=32, max_size=32)),
        table=table,
        sequence=sequence,
    )


def same(one: Manifest, other: Manifest) -> bool:
    """Field by field: arrays do not compare to one truth."""
    columns = ("chunk", "pack", "offset", "stored", "size", "codec", "base_count", "base")
    plain = ("size", "digest", "kind", "created", "layout", "features", "md5", "sha256", "inline")
    return (
        all(getattr(one, name) == getattr(other, name) for name in plain)
        and one.table.packs == other.table.packs
        and all(np.array_equal(getattr(one.table, name), getattr(other.table, name)) for name in columns)
        and np.array_equal(one.sequence, other.sequence)
    )


def example() -> Manifest:
    """Two packs, three chunks of which one is coded against the two before it, and one that comes twice."""
    rows = [
        (0, HEAD_BYTES, 80, 100, 0, ()),
        (1, HEAD_BYTES, 50, 100, 1, ()),
        (1, HEAD_BYTES + 50, 20, 60, 16, (0, 1)),
    ]
    sequence = column([0, 2, 1, 2])
    return Manifest(320, named(b"whole"), created=5.0, features=("c-1",), table=table_of(rows, 2), sequence=sequence)


def sealed(body: Body | bytes) -> bytes:
    """What a hostile writer makes of a body: every digest is right."""
    packed = body if isinstance(body, bytes) else msgspec.msgpack.encode(body)
    frame = zstandard.ZstdCompressor().compress(packed)
    return MAGIC + blake3(MAGIC + frame).digest() + frame


def body_of(manifest: Manifest) -> Body:
    body: Body = msgspec.msgpack.decode(zstandard.decompress(encode_manifest(manifest)[40:]))
    return body


@given(manifests())
def test_any_manifest_round_trips(manifest: Manifest) -> None:
    assert same(decode_manifest(encode_manifest(manifest), "x"), manifest)


@given(st.binary(max_size=200), st.lists(st.text(max_size=5), max_size=2))
def test_a_small_file_lives_inside_its_manifest(content: bytes, features: list[str]) -> None:
    manifest = Manifest(len(content), named(content), inline=content, features=tuple(features))
    read = decode_manifest(encode_manifest(manifest), "x")
    assert same(read, manifest)
    assert read.inline == content
    assert len(read.table) == 0


def test_an_empty_file_and_an_empty_directory_round_trip() -> None:
    for kind in ("file", "directory"):
        manifest = Manifest(0, named(b""), kind=kind)  # type: ignore[arg-type]
        assert same(decode_manifest(encode_manifest(manifest), "x"), manifest)
    assert len(empty_table()) == 0


@given(tables())
def test_a_row_knows_its_name_and_its_bases(table: ChunkTable) -> None:
    expected, start = [], 0
    for count in table.base_count.tolist():
        expected.append(tuple(table.base[start : start + count].tolist()))
        start += count
    assert [table.bases(row) for row in range(len(table))] == expected
    assert [table.id(row) for row in range(len(table))] == [named(b"chunk %d" % row) for row in range(len(table))]


def test_every_flipped_bit_is_noticed() -> None:
    data = encode_manifest(example())
    for bit in range(8 * len(data)):
        with pytest.raises((ManifestDamaged, FormatUnknown), match=r"models/m is|manifest of models/m "):
            decode_manifest(flipped(data, bit), "models/m")


def test_every_truncation_is_noticed() -> None:
    data = encode_manifest(example())
    for length in range(len(data)):
        with pytest.raises(ManifestDamaged, match="the manifest of models/m"):
            decode_manifest(data[:length], "models/m")
    with pytest.raises(ManifestDamaged, match="fails its digest"):
        decode_manifest(data + b"\0", "models/m")


def test_a_format_from_the_future_is_told_from_damage() -> None:
    with pytest.raises(FormatUnknown, match="models/m is stored in a format from the future; upgrade Shardflow"):
        decode_manifest(manifest_from_the_future(), "models/m")


@given(st.binary(max_size=100))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestDamaged, match="is not a manifest"):
        decode_manifest(data, "x")
    with pytest.raises(ManifestDamaged):
        decode_manifest(MAGIC + blake3(MAGIC + data).digest() + data, "x")


def u32(*values: int) -> bytes:
    return column(list(values)).tobytes()


LIES: dict[str, tuple[str, Body]] = {
    "its size is not that of its chunks": ("make 320 bytes, and it says 321", {"size": 321}),
    "its size is negative": ("malformed", {"size": -1}),
    "its size is beyond every number": ("is not valid", {"size": 1 << 64 - 1}),
    "its digest is short": ("malformed", {"digest": bytes(31)}),
    "its digest is long": ("malformed", {"digest": bytes(33)}),
    "its MD5 is short": ("its MD5 is malformed", {"md5": bytes(15)}),
    "its SHA-256 is long": ("its SHA-256 is malformed", {"sha256": bytes(33)}),
    "it was written before 1970": ("time of creation", {"created": -1.0}),
    "it was written when there are no dates any more": ("time of creation", {"created": 1e300}),
    "it was written never": ("time of creation", {"created": math.inf}),
    "it was written at no time": ("time of creation", {"created": math.nan}),
    "its digest is text": ("is not valid", {"digest": "ab"}),
    "a pack's name is short": ("malformed", {"packs": [bytes(32), bytes(31)]}),
    "its packs are no list": ("is not valid", {"packs": bytes(32)}),
    "a row names a pack too far": ("outside every pack", {"pack": u32(0, 1, 2)}),
    "there are no packs": ("outside every pack", {"packs": []}),
    "a chunk lies in a pack's head": ("outside every pack", {"offset": u32(HEAD_BYTES, HEAD_BYTES - 1, 100)}),
    "a chunk is too large": ("larger than", {"length": u32(100, 100, MAX_CHUNK_BYTES + 1)}),
    "a chunk is stored in too many bytes": ("larger than", {"stored": u32(80, 50, 0xFFFFFFFF)}),
    "its sequence leaves the table": ("not in its table", {"sequence": u32(0, 2, 1, 3)}),
    "its sequence is no numbers": ("is not valid", {"sequence": b"abc"}),
    "a column is short": ("differ in length", {"stored": u32(80, 50)}),
    "a column is long": ("differ in length", {"offset": u32(100, 200, 300, 400)}),
    "a column ends inside a number": ("is not valid", {"length": u32(100, 100, 60)[:-1]}),
    "a name is short": ("differ in length", {"chunk": bytes(95)}),
    "a codec is missing": ("differ in length", {"codec": bytes(2)}),
    "all codecs are missing": ("differ in length", {"codec": b""}),
    "base counts are short": ("differ in number", {"base_count": bytes([0, 2])}),
    "there are more bases than counted": ("differ in number", {"base": u32(0, 1, 1)}),
    "there are fewer bases than counted": ("differ in number", {"base": u32(0)}),
    "there are bases and no counts": ("differ in number", {"base_count": b""}),
    "a chunk is its own base": ("does not come before it", {"base": u32(0, 2)}),
    "a base comes later": ("does not come before it", {"base_count": bytes([1, 1, 0]), "base": u32(1, 0)}),
    "two chunks are each other's base": (
        "does not come before it",
        {"base_count": bytes([0, 1, 1]), "base": u32(2, 1)},
    ),
    "a base is not in the table": ("does not come before it", {"base": u32(0, 9)}),
    "it has content of its own and chunks": ("make 4 bytes", {"inline": b"four"}),
    "its content and its chunks agree in size": ("is not valid", {"inline": bytes(320)}),
    "its kind is unknown": ("is not valid", {"kind": "socket"}),
    "its features are no list": ("is not valid", {"features": "c-1"}),
    "its time is text": ("is not valid", {"created": "today"}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_though_every_digest_is_right(lie: str) -> None:
    told, changes = LIES[lie]
    body = body_of(example())
    assert same(decode_manifest(sealed(body), "models/m"), example())
    with pytest.raises(ManifestDamaged, match=f"the manifest of models/m is not valid: .*{told}|{told}"):
        decode_manifest(sealed(body | changes), "models/m")


@pytest.mark.parametrize("missing", ["size", "digest", "created"])
def test_what_every_file_has_must_be_there(missing: str) -> None:
    body = body_of(example())
    del body[missing]
    with pytest.raises(ManifestDamaged, match=missing):
        decode_manifest(sealed(body), "x")


def test_additions_of_later_versions_are_passed_over() -> None:
    assert same(decode_manifest(sealed(body_of(example()) | {"signature": [1, {"by": "me"}]}), "x"), example())


@pytest.mark.parametrize(
    "packed",
    [b"", b"\xc1", b"\x90", msgspec.msgpack.encode({1: 2}), msgspec.msgpack.encode({"layout": 3})],
)
def test_a_body_that_is_no_map_of_ours_is_refused(packed: bytes) -> None:
    with pytest.raises(ManifestDamaged, match="is not valid"):
        decode_manifest(sealed(packed), "x")


def test_a_text_that_is_none_is_refused() -> None:
    packed = msgspec.msgpack.encode(body_of(example()) | {"layout": "plain"}).replace(b"plain", b"pla\xffn")
    with pytest.raises(ManifestDamaged, match="is not valid"):
        decode_manifest(sealed(packed), "x")


def test_a_body_nested_without_end_is_refused() -> None:
    body = msgspec.msgpack.encode(body_of(example()) | {"z": 1})
    assert body.endswith(b"\x01")
    with pytest.raises(ManifestDamaged, match="is not valid"):
        decode_manifest(sealed(body[:-1] + b"\x91" * 200_000 + b"\x01"), "x")


def frame_declaring(size: int) -> bytes:
    """A zstd frame of one empty block that says it holds so many bytes."""
    return b"\x28\xb5\x2f\xfd\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 1 << 40, (1 << 64) - 3])
def test_a_body_of_absurd_size_is_refused_before_memory_is_taken(size: int) -> None:
    frame = frame_declaring(size)
    peak = _peak_memory(lambda: _refused(MAGIC + blake3(MAGIC + frame).digest() + frame, "over the limit"))
    assert peak < 1 << 20


def test_a_body_that_does_not_say_its_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor(write_content_size=False).compressobj().compress(b"") + b""
    packer = zstandard.ZstdCompressor(write_content_size=False)
    frame = packer.compress(msgspec.msgpack.encode(body_of(example())))
    _refused(MAGIC + blake3(MAGIC + frame).digest() + frame, "over the limit")


def test_a_body_that_says_the_wrong_size_is_refused() -> None:
    good = zstandard.ZstdCompressor().compress(bytes(200))
    assert good[4] & 0x20
    shorter = good[:5] + bytes([good[5] - 1]) + good[6:]
    for frame in (shorter, frame_declaring(100)):
        _refused(MAGIC + blake3(MAGIC + frame).digest() + frame, "is not valid")


def _refused(data: bytes, match: str) -> None:
    with pytest.raises(ManifestDamaged, match=match):
        decode_manifest(data, "x")


def _peak_memory(act: Callable[[], None]) -> int:
    tracemalloc.start()
    try:
        act()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_million_chunks_load_without_a_million_objects() -> None:
    rows = 200_000
    names = np.frombuffer(noise(32 * rows), np.uint8).reshape(rows, 32)
    plain, zero = np.arange(rows, dtype=np.uint32), np.zeros(rows, np.uint8)
    table = ChunkTable(
        (bytes(32),), names, plain * 0, plain + HEAD_BYTES, plain * 0 + 9, plain * 0 + 9, zero, zero, u32s()
    )
    data = encode_manifest(Manifest(9 * rows, bytes(32), table=table, sequence=plain))
    peak = _peak_memory(lambda: _loaded(data, rows))
    assert peak < 120 * rows, "the body, its columns once more, and the checks on them"


def u32s() -> Any:
    return np.zeros(0, np.uint32)


def _loaded(data: bytes, rows: int) -> None:
    assert len(decode_manifest(data, "x").sequence) == rows


@given(manifests())
@settings(max_examples=20)
def test_the_same_manifest_is_always_the_same_bytes(manifest: Manifest) -> None:
    assert encode_manifest(manifest) == encode_manifest(decode_manifest(encode_manifest(manifest), "x"))
