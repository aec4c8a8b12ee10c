"""A reader is the file as it was when opened: reads give its bytes, and only what is touched is fetched."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from shardflow.store import reader as reader_module
from shardflow.store.cache import ChunkCache
from shardflow.store.errors import ChunkDamaged, PackMissing
from shardflow.store.manifest import Manifest
from shardflow.store.pack import pack_key
from shardflow.store.reader import Reader
from shardflow.store.store import Store
from shardflow.transport import ByteBudget, Totals, Transport
from store.samples import flipped, in_memory, named, noise, stored

BUDGET = ByteBudget(64 << 20)
CHUNKS = [noise(1000 + 100 * number, number) for number in range(5)]
SEQUENCE = [CHUNKS[number] for number in (0, 1, 2, 1, 3, 4, 0)]
CONTENT = b"".join(SEQUENCE)


def opened(place: Transport, manifest: Manifest, **more: object) -> Reader:
    return Reader("m", place, manifest, BUDGET, **more)  # type: ignore[arg-type]


def counted(sequence: list[bytes], **how: object) -> tuple[Reader, Totals]:
    """A reader, and what it fetches."""
    place, totals = in_memory(), Totals()
    manifest = stored(place, sequence, **how)  # type: ignore[arg-type]
    return opened(place.session(totals=totals), manifest), totals


@st.composite
def readers(draw: st.DrawFn) -> tuple[Reader, bytes]:
    chunks = [noise(size, size) for size in draw(st.lists(st.integers(1, 60), min_size=1, max_size=6, unique=True))]
    sequence = draw(st.lists(st.sampled_from(chunks), max_size=12))
    place = in_memory()
    return opened(place, stored(place, sequence, per_pack=2)), b"".join(sequence)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 200)),
        st.tuples(st.just("seek"), st.integers(0, 400)),
        st.tuples(st.just("back"), st.integers(-100, 0)),
        st.tuples(st.just("read_at"), st.tuples(st.integers(0, 400), st.integers(0, 200))),
        st.tuples(st.just("readline"), st.integers(-1, 50)),
        st.tuples(st.just("peek"), st.integers(1, 50)),
    ),
    max_size=15,
)


@given(readers(), steps)
@settings(max_examples=150)
def test_any_seeks_and_reads_give_what_a_plain_file_gives(found: tuple[Reader, bytes], steps: list[object]) -> None:
    reader, content = found
    plain = io.BytesIO(content)
    with reader:
        assert reader.size == len(content)
        for act, value in steps:  # type: ignore[misc]
            if act == "read_at":
                offset, length = value
                assert reader.read_at(offset, length) == content[offset : offset + length]
            elif act == "peek":
                assert plain.getvalue()[plain.tell() :].startswith(reader.peek(value))
            elif act == "seek":
                assert reader.seek(value) == plain.seek(value)
            elif act == "back":
                end = max(-len(content), value)
                assert reader.seek(end, io.SEEK_END) == plain.seek(end, io.SEEK_END)
            else:
                assert getattr(reader, act)(value) == getattr(plain, act)(value)
            assert reader.tell() == plain.tell()


@given(st.binary(max_size=100), st.integers(0, 120), st.integers(0, 120))
def test_a_file_inside_its_manifest_reads_like_any_other(content: bytes, offset: int, length: int) -> None:
    with opened(in_memory(), Manifest(len(content), named(content), inline=content)) as reader:
        assert reader.read_at(offset, length) == content[offset : offset + length]
        assert reader.read() == content


@given(st.data())
@settings(max_examples=60)
def test_only_the_chunks_that_are_touched_are_fetched(data: st.DataObject) -> None:
    reader, totals = counted(SEQUENCE, per_pack=2)
    start = data.draw(st.integers(0, len(CONTENT) - 1))
    length = data.draw(st.integers(1, len(CONTENT) - start))
    with reader:
        assert reader.read_at(start, length) == CONTENT[start : start + length]
    touched, end = set(), 0
    for chunk in SEQUENCE:
        begin, end = end, end + len(chunk)
        if begin < start + length and start < end:
            touched.add(chunk)
    least = sum(len(chunk) for chunk in touched)
    assert least <= totals.bytes_received <= least + len(CHUNKS[0]), "at most the chunk between two that are wanted"
    assert totals.reads <= len(touched)


def test_small_reads_of_one_chunk_fetch_it_once() -> None:
    reader, totals = counted(SEQUENCE)
    with reader:
        for _ in range(0, 1000, 10):
            reader.read(10)
        assert (totals.reads, totals.bytes_received) == (1, 1000)
        reader.read(10)
        assert (totals.reads, totals.bytes_received) == (2, 2100)


def test_reading_through_fetches_every_chunk_once() -> None:
    reader, totals = counted(CHUNKS, per_pack=2)
    with reader:
        assert b"".join(iter(lambda: reader.read(77), b"")) == b"".join(CHUNKS)
    assert totals.bytes_received == sum(map(len, CHUNKS))
    assert totals.reads == len(CHUNKS)


def test_reading_all_at_once_reads_in_large_ranges() -> None:
    reader, totals = counted(CHUNKS, per_pack=5)
    with reader:
        reader.seek(10)
        assert reader.read() == b"".join(CHUNKS)[10:]
        assert reader.read() == b""
    assert totals.reads == 1


def test_lines_are_not_read_byte_by_byte() -> None:
    lines = [b"line %d\n" % number for number in range(2000)]
    text = b"".join(lines)
    reader, totals = counted([text[:9000], text[9000:]])
    with reader:
        calls = 0
        real = reader.readinto_at

        def counting(offset: int, target: bytearray) -> int:
            nonlocal calls
            calls += 1
            return real(offset, target)

        reader.readinto_at = counting  # type: ignore[method-assign]
        assert list(reader) == lines
    assert calls < 3 * len(lines)
    assert totals.reads == 2


def test_chunks_read_in_part_are_kept_only_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "KEPT_BYTES", 2500)
    reader, totals = counted(CHUNKS, per_pack=1)
    with reader:
        starts = [0, 1000, 2100]
        for start in (*starts, starts[-1], starts[0]):
            reader.read_at(start, 1)
        assert totals.reads == 4, "the last was kept, the first had to go"
        assert sum(map(len, reader._kept.values())) == reader._kept_bytes <= 2500


def test_a_chunk_larger_than_the_limit_is_still_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "KEPT_BYTES", 10)
    reader, totals = counted(CHUNKS)
    with reader:
        for start in range(0, 900, 100):
            reader.read_at(start, 10)
    assert totals.reads == 1


def test_a_chunk_that_comes_twice_is_fetched_once() -> None:
    reader, totals = counted([CHUNKS[0]] * 50)
    with reader:
        assert reader.read() == CHUNKS[0] * 50
    assert totals.bytes_received == len(CHUNKS[0])


def test_many_threads_may_read_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "KEPT_BYTES", 3000)
    reader, _ = counted(SEQUENCE, per_pack=1)

    def read_about(seed: int) -> None:
        for turn in range(60):
            start = (seed * 997 + turn * 313) % len(CONTENT)
            length = (seed * 101 + turn * 71) % 2500
            assert reader.read_at(start, length) == CONTENT[start : start + length]

    with reader, ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(read_about, seed) for seed in range(8)]:
            done.result()
        assert sum(map(len, reader._kept.values())) == reader._kept_bytes


def test_it_is_a_file_to_those_who_ask() -> None:
    reader, _ = counted(SEQUENCE)
    with reader:
        assert reader.readable()
        assert reader.seekable()
        assert not reader.writable()
        assert (reader.name, reader.size, reader.digest) == ("m", len(CONTENT), named(CONTENT).hex())
        assert io.BufferedReader(reader).read(1500) == CONTENT[:1500]


def test_a_buffer_of_any_shape_is_filled() -> None:
    reader, _ = counted(SEQUENCE)
    with reader:
        target = memoryview(bytearray(800)).cast("I")
        assert reader.readinto_at(100, target) == 800
        assert bytes(target) == CONTENT[100:900]
        assert reader.readinto_at(len(CONTENT) - 5, target) == 5
        assert bytes(target)[:5] == CONTENT[-5:]


def test_behind_the_end_there_is_nothing() -> None:
    reader, totals = counted(SEQUENCE)
    with reader:
        reader.seek(10, io.SEEK_END)
        assert reader.tell() == len(CONTENT) + 10
        assert reader.read() == reader.read(5) == reader.read_at(1 << 60, 5) == reader.read_at(5, -1) == b""
    assert totals.reads == 0


def test_before_the_start_is_refused() -> None:
    reader, _ = counted(SEQUENCE)
    with reader:
        with pytest.raises(ValueError, match="cannot seek to -1, before the start of m"):
            reader.seek(-1)
        with pytest.raises(ValueError, match="cannot read at -5, before the start of m"):
            reader.read_at(-5, 10)
        with pytest.raises(ValueError, match="cannot seek from 7"):
            reader.seek(0, 7)
        assert reader.tell() == 0


def test_after_it_is_closed_nothing_is_read() -> None:
    reader, _ = counted(SEQUENCE)
    reader.read(10)
    reader.close()
    reader.close()
    assert reader.closed
    for use in (lambda: reader.read(1), lambda: reader.read_at(0, 1), lambda: reader.seek(0), reader.readline):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_damaged_chunk_is_never_returned() -> None:
    place = in_memory()
    manifest = stored(place, CHUNKS, per_pack=1)
    key = pack_key(manifest.table.packs[int(manifest.table.pack[2])])
    place.write(key, flipped(bytes(place.read(key)), 8 * 500))
    with opened(place, manifest) as reader:
        assert reader.read(2100) == b"".join(CHUNKS[:2])
        for act in (lambda: reader.read(1), reader.read):
            with pytest.raises(ChunkDamaged, match="of m in pack"):
                act()
        assert reader.read_at(3300, 100) == CHUNKS[3][:100]


def test_after_a_failed_read_nothing_writes_into_the_callers_buffer() -> None:
    """Ranges are fetched side by side; when one fails, the caller must not go on while others still write."""
    place = in_memory()
    manifest = stored(place, CHUNKS, per_pack=1)
    first = pack_key(manifest.table.packs[int(manifest.table.pack[0])])
    place.delete(first)
    released, real = threading.Event(), type(place).read_range

    class Slow(type(place)):  # type: ignore[misc]
        def read_range(self, key: str, start: int, length: int) -> memoryview:
            if key != first:
                released.wait(0.2)
            return real(self, key, start, length)

    place.__class__ = Slow
    target = bytearray(len(CONTENT))
    with opened(place, manifest) as reader:
        with pytest.raises(PackMissing):
            reader.readinto_at(0, target)
        after = bytes(target)
        released.wait(0.3)
        assert bytes(target) == after


def moved(place: Transport, manifest: Manifest, sequence: list[bytes]) -> Manifest:
    """The same content in other packs and another order of rows, and the old packs gone."""
    fresh = stored(place, sequence, per_pack=1, salt=b"s" * 16)
    table = fresh.table
    rows = list(range(len(table)))[::-1]
    turned = type(table)(
        table.packs,
        *(getattr(table, name)[rows] for name in ("chunk", "pack", "offset", "stored", "size", "codec", "base_count")),
        table.base,
    )
    for pack in manifest.table.packs:
        place.delete(pack_key(pack))
    last = len(table) - 1
    return Manifest(fresh.size, fresh.digest, table=turned, sequence=last - fresh.sequence)


def repacked_while_open(content: list[bytes], reload: Callable[[Manifest, Manifest], Manifest]) -> Reader:
    place = in_memory()
    old = stored(place, SEQUENCE)
    new: list[Manifest] = []
    reader = opened(place, old, reload=lambda: reload(old, new[0]))
    assert reader.read(700) == CONTENT[:700]
    new.append(moved(place, old, content))
    return reader


def test_a_repack_while_it_is_open_goes_unnoticed() -> None:
    with repacked_while_open(SEQUENCE, lambda _, new: new) as reader:
        assert reader.read() == CONTENT[700:]
        assert reader.read_at(0, len(CONTENT)) == CONTENT


def test_a_repack_goes_unnoticed_by_many_threads() -> None:
    """One of them loads the new manifest, the others find it loaded; none mixes the two."""
    for _ in range(5):
        with repacked_while_open(SEQUENCE, lambda _, new: new) as reader, ThreadPoolExecutor(8) as pool:
            starts = [700 + 531 * turn for turn in range(10)]
            found = pool.map(lambda start, reader=reader: reader.read_at(start, 900), starts)
            assert list(found) == [CONTENT[start : start + 900] for start in starts]


def test_another_content_put_in_its_place_is_not_mixed_in() -> None:
    with repacked_while_open(SEQUENCE[::-1], lambda _, new: new) as reader, pytest.raises(PackMissing):
        reader.read()


def test_a_pack_that_is_really_gone_is_told() -> None:
    with repacked_while_open(SEQUENCE, lambda old, _: old) as reader:
        assert reader.read(200) == CONTENT[700:900], "the chunk that was kept"
        with pytest.raises(PackMissing, match="of m is not in the store"):
            reader.read()


def test_the_cache_serves_what_was_read_before(tmp_path: Path) -> None:
    place, totals = in_memory(), Totals()
    manifest = stored(place, SEQUENCE)
    for _ in range(2):
        with opened(place.session(totals=totals), manifest, cache=ChunkCache(tmp_path, 1 << 20)) as reader:
            assert reader.read() == CONTENT
    assert totals.bytes_received == sum(map(len, CHUNKS))


def test_a_damaged_cache_costs_a_fetch_and_nothing_else(tmp_path: Path) -> None:
    place, totals = in_memory(), Totals()
    manifest = stored(place, SEQUENCE)
    cache = ChunkCache(tmp_path, 1 << 20)
    with opened(place, manifest, cache=cache) as reader:
        reader.read()
    for entry in cache.directory.glob("*/*"):
        entry.write_bytes(flipped(entry.read_bytes(), 4))
    with opened(place.session(totals=totals), manifest, cache=cache) as reader:
        assert reader.read() == CONTENT
    assert totals.bytes_received == sum(map(len, CHUNKS))


def test_the_budget_is_given_back_whatever_happens() -> None:
    place = in_memory()
    manifest = stored(place, SEQUENCE, per_pack=1)
    budget = ByteBudget(1 << 20)  # less than one range needs: then ranges are read one by one
    with Reader("m", place, manifest, budget) as reader:
        assert reader.read() == CONTENT
        place.delete(pack_key(manifest.table.packs[0]))
        with pytest.raises(PackMissing):
            reader.read_at(0, len(CONTENT))
    assert budget.out == 0


def test_who_reads_on_is_spared_a_request_for_every_chunk() -> None:
    transport = in_memory()
    content = noise(4 << 20)
    chunks = [content[start : start + 16_384] for start in range(0, len(content), 16_384)]
    session, manifest = transport.session(), stored(transport, chunks, per_pack=60)
    with Reader("m", session, manifest, ByteBudget(64 << 20)) as reader:
        read = b"".join(iter(lambda: reader.read(10_000), b""))
    assert read == content
    assert session.totals.reads < len(chunks) / 4
    assert session.totals.bytes_received < 1.1 * len(content)


@given(st.integers(0, 9), st.integers(0, 40), st.integers(0, 3000))
@settings(max_examples=60, deadline=None)
def test_memory_that_lies_anywhere_gets_what_is_there_and_nothing_beside_it(
    shift: int, offset: int, length: int
) -> None:
    reader, _ = counted(SEQUENCE)
    memory = bytearray(b"?" * 4000)
    with memoryview(memory)[shift : shift + length] as target:
        assert reader.readinto_at(offset, target) == length
    assert memory[shift : shift + length] == CONTENT[offset : offset + length]
    assert not (memory[:shift] + memory[shift + length :]).strip(b"?")


@pytest.mark.parametrize("shift", range(9))
def test_numbers_in_planes_are_decoded_where_they_belong_however_that_memory_lies(shift: int) -> None:
    numbers = (np.random.default_rng(1).normal(size=300_000) * 0.02).astype(np.float32)
    store = Store.init(in_memory().url)
    store.put(io.BytesIO(save({"a": numbers})), "m")
    assert "planes" in store.stat("m").codecs
    memory = bytearray(numbers.nbytes + shift)
    with store.open("m") as file, memoryview(memory)[shift:] as target:
        file.readinto_at(file.size - numbers.nbytes, target)
        assert bytes(target) == numbers.tobytes()
