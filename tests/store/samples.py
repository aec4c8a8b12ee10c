"""Files made of chosen chunks, in stores built by hand: what the tests of single modules work on."""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from blake3 import blake3

from shardflow import codec
from shardflow.dtype import DType
from shardflow.store.bases import Known
from shardflow.store.catalog import Catalog
from shardflow.store.gear import Gear
from shardflow.store.manifest import MAGIC, Manifest
from shardflow.store.pack import PackBuilder, PackEntry, pack_key
from shardflow.transport import StoreURL, Transport, connect

_numbers = itertools.count()


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def named(data: bytes) -> bytes:
    return blake3(data).digest()


def in_memory() -> Transport:
    """A place of its own that only this process sees."""
    return connect(StoreURL.parse(f"shardflow://memory/sample-{next(_numbers)}"))


def added(builder: PackBuilder, data: bytes, dtype: DType = DType.BYTES, at: int | None = None) -> PackEntry:
    """A chunk encoded into a pack, as its entry there; `at` is its place in a file."""
    encoded = codec.encode(data, dtype)
    offset = builder.add(named(data), len(data), encoded.codec, encoded.parts, at=at)
    return PackEntry(named(data), offset, encoded.size, len(data), encoded.codec)


def stored(
    transport: Transport,
    sequence: Sequence[bytes],
    *,
    per_pack: int = 3,
    between: bytes = b"",
    salt: bytes = bytes(16),
    paged: bool = False,
) -> Manifest:
    """A file made of these chunks, each distinct one stored once, so many to a pack, with `between` after each.

    Where it is `paged`, large ones lie in their packs as they do in the file, as far as pages go.
    """
    catalog, rows, at = Catalog(), array("I"), 0
    for group in _groups(dict.fromkeys(sequence), per_pack):
        builder = PackBuilder(1 << 20, salt=salt)
        entries = []
        for data in group:
            entries.append(added(builder, data, at=at if paged else None))
            at += len(data)
            if between:
                added(builder, between)
        pack = builder.finish()
        transport.write(pack_key(pack.id), pack.data)
        catalog.add_pack(pack.id, entries)
    for data in sequence:
        row = catalog.find(named(data))
        assert row is not None
        rows.append(row)
    table, places = catalog.table(rows)
    whole = b"".join(sequence)
    return Manifest(len(whole), named(whole), created=1.0, table=table, sequence=places)


def _groups(chunks: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    left = iter(chunks)
    while group := list(itertools.islice(left, size)):
        yield group


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes but for one bit."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def manifest_from_the_future() -> bytes:
    """What a newer version might write: whole, but of a format with another number."""
    magic, content = MAGIC[:7] + b"\x02", b"anything at all"
    return magic + blake3(magic + content).digest() + content


def cut_by(gear: Gear, data: bytes) -> list[tuple[bytes, bytes]]:
    """The chunks that a file is cut into by content, each with its name."""
    ends = gear.cuts(data, final=True)
    return [(named(data[start:end]), data[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def taken_up(catalog: Catalog, chunks: Sequence[tuple[bytes, bytes]], layout: str = "plain") -> Known:
    """A file of these chunks, with their names, as a writer knows it that has looked it up."""
    pack = catalog.number_of(named(b"a pack"))
    rows = array("I")
    for name, data in chunks:
        row = catalog.find(name)
        rows.append(catalog.add(name, pack, 8, len(data), len(data), 0) if row is None else row)
    table, sequence = catalog.table(rows)
    whole = b"".join(data for _, data in chunks)
    manifest = Manifest(len(whole), named(whole), layout=layout, table=table, sequence=sequence)
    return Known("earlier", manifest, catalog.add_manifest(manifest))
