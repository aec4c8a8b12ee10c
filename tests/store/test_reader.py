"""A reader is the file as it was when opened: reads give its bytes, and only what is touched is fetched."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.store import reader as reader_module
from shardflow.store.errors import ChunkDamaged, PackMissing
from shardflow.store.manifest import Manifest
from shardflow.store.pack import pack_key
from shardflow.store.reader import Reader
from shardflow.transport import ByteBudget
from store.opening import CHUNKS, CONTENT, SEQUENCE, counted, opened
from store.samples import flipped, in_memory, named, noise, stored


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


@pytest.mark.parametrize("content", [[], CHUNKS])
def test_after_it_is_closed_it_is_not_taken_for_one_that_has_come_to_its_end(content: list[bytes]) -> None:
    place = in_memory()
    reader = opened(place, stored(place, content))
    reader.readall()
    reader.close()
    for use in (lambda: reader.read(1), lambda: reader.readinto(bytearray(3))):
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
