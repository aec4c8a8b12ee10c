"""A new version is cut where a scan of all its bytes cuts it, whatever the earlier one was; only less is scanned."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardflow.store import reading
from shardflow.store.catalog import Catalog
from shardflow.store.following import Follower, followed_blocks
from shardflow.store.gear import Gear
from shardflow.store.reading import Buffers
from shardflow.store.trail import trail_of
from store.samples import cut_by, named, noise, taken_up

BLOCK = 4096


class Counting(Gear):
    """Counts the bytes that it scans."""

    scanned = 0

    def cuts(self, data: memoryview, final: bool) -> list[int]:  # type: ignore[override]
        self.scanned += len(data)
        return super().cuts(data, final)


GEAR = Counting(64, 128, 512)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BLOCK_BYTES", BLOCK)


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def followed(data: bytes, earlier: Sequence[bytes], pool: ThreadPoolExecutor, *, stream: bool = False) -> list[int]:
    """Where a new version is cut that follows earlier ones; checks that its blocks hold it, and the names it has."""
    catalog = Catalog()
    trail = trail_of(catalog, [taken_up(catalog, cut_by(GEAR, version)) for version in earlier], GEAR)
    assert trail is not None
    buffers, whole, ends = Buffers(GEAR.maximum), b"", []
    source, GEAR.scanned = io.BytesIO(data), 0
    for block in followed_blocks(
        source,  # type: ignore[arg-type]
        None if stream else len(data),
        Follower(trail, GEAR, pool),
        buffers,
    ):
        assert [span.start for span in block.spans] == [0, *(span.end for span in block.spans[:-1])]
        assert block.spans[-1].end == len(block.data)
        for span in block.spans:
            assert span.name in (None, named(bytes(block.data[span.start : span.end])))
        ends += [len(whole) + span.end for span in block.spans]
        whole += block.data
        block.buffer[:] = bytes(len(block.buffer))
        buffers.give(block.buffer)
    assert whole == data
    return ends


def scanned(data: bytes) -> list[int]:
    return Gear.cuts(GEAR, data, final=True)


@st.composite
def contents(draw: st.DrawFn, least: int = 0) -> bytes:
    """Runs of random, constant and repeating bytes, so that some cuts are forced and some chunks come many times."""
    parts = []
    for seed in draw(st.lists(st.integers(0, 50), min_size=1, max_size=5)):
        size = draw(st.integers(0, 12_000))
        kind = draw(st.sampled_from(("random", "constant", "repeating")))
        unit = {"random": noise(size, seed), "constant": bytes([seed]), "repeating": noise(1 + 37 * seed, seed)}[kind]
        parts.append((unit * (size // max(len(unit), 1) + 1))[:size])
    return b"".join(parts) + noise(least, 99)


@st.composite
def edited(draw: st.DrawFn, data: bytes) -> bytes:
    """Content with some of it replaced, inserted, deleted, repeated or cut off."""
    for kind in draw(
        st.lists(st.sampled_from(("replace", "insert", "delete", "repeat", "truncate", "append")), max_size=6)
    ):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 3000))
        fresh = noise(size, draw(st.integers(100, 200)))
        elsewhere = draw(st.integers(0, len(data)))
        data = {
            "replace": data[:at] + fresh + data[at + size :],
            "insert": data[:at] + fresh + data[at:],
            "delete": data[:at] + data[at + size :],
            "repeat": data[:at] + data[elsewhere : elsewhere + 3 * size] + data[at:],
            "truncate": data[:at],
            "append": data + fresh,
        }[kind]
    return data


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_an_edited_file_is_cut_as_a_scan_cuts_it(pool: ThreadPoolExecutor, data: st.DataObject) -> None:
    earlier = data.draw(contents(least=GEAR.maximum + 1))
    new = data.draw(edited(earlier))
    assert followed(new, [earlier], pool, stream=data.draw(st.booleans())) == scanned(new)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_so_is_one_that_is_put_together_from_several_others(pool: ThreadPoolExecutor, data: st.DataObject) -> None:
    earlier = data.draw(st.lists(contents(least=GEAR.maximum + 1), min_size=1, max_size=3))
    new = b"".join(data.draw(st.lists(st.sampled_from(earlier).flatmap(edited), max_size=4)))
    assert followed(new, earlier, pool) == scanned(new)


@settings(max_examples=150, deadline=None)
@given(length=st.integers(GEAR.maximum + 1, 9000), new=st.integers(0, 9000), constant=st.booleans())
def test_an_earlier_file_ends_its_last_chunk_only_where_the_new_one_ends(
    pool: ThreadPoolExecutor, length: int, new: int, constant: bool
) -> None:
    data = bytes(9000) if constant else noise(9000)
    assert followed(data[:new], [data[:length]], pool) == scanned(data[:new])


def test_the_same_content_is_not_scanned_at_all(pool: ThreadPoolExecutor) -> None:
    for data in (noise(100_000), bytes(100_000), noise(700) * 100):
        assert followed(data, [data], pool) == scanned(data)
        followed(data, [data], pool)
        assert GEAR.scanned == 0


@pytest.mark.parametrize("removed", [0, 200])
def test_little_is_scanned_where_little_differs(pool: ThreadPoolExecutor, removed: int) -> None:
    earlier = noise(1_000_000)
    new = earlier[:500_000] + noise(200, 1) + earlier[500_000 + removed :]
    expected = scanned(new)
    assert followed(new, [earlier], pool) == expected
    assert GEAR.scanned < 10 * GEAR.maximum


def test_what_was_moved_is_found_again(pool: ThreadPoolExecutor) -> None:
    parts = [noise(200_000, seed) for seed in range(4)]
    earlier, new = b"".join(parts), b"".join(reversed(parts))
    expected = scanned(new)
    assert followed(new, [earlier], pool) == expected
    assert GEAR.scanned < 40 * GEAR.maximum


def test_of_several_versions_the_one_that_comes_again_is_followed(pool: ThreadPoolExecutor) -> None:
    earlier = [noise(300_000, seed) for seed in range(3)]
    assert followed(earlier[2], earlier, pool) == scanned(earlier[2])
    followed(earlier[2], earlier, pool)
    assert GEAR.scanned < 4 * GEAR.maximum


def test_a_file_like_no_other_is_scanned_once(pool: ThreadPoolExecutor) -> None:
    new = noise(1_000_000, 1)
    expected = scanned(new)
    assert followed(new, [noise(1_000_000)], pool) == expected
    assert GEAR.scanned < 1.2 * len(new), "but for what each block leaves over to the next"


def test_as_many_changes_as_chunks_cost_little_more_than_a_scan(pool: ThreadPoolExecutor) -> None:
    earlier, new = noise(500_000), bytearray(noise(500_000))
    new[::1000] = bytes(byte ^ 255 for byte in new[::1000])
    expected = scanned(bytes(new))
    assert followed(bytes(new), [earlier], pool) == expected
    assert GEAR.scanned < 1.3 * len(new)


def test_chunks_with_other_names_than_their_content_are_not_believed(pool: ThreadPoolExecutor) -> None:
    """As in a catalog of a store whose manifest was made up."""
    data = noise(50_000)
    catalog = Catalog()
    lies = [(named(name), chunk) for name, chunk in cut_by(GEAR, data)]
    trail = trail_of(catalog, [taken_up(catalog, lies)], GEAR)
    assert trail is not None
    found = followed_blocks(io.BytesIO(data), len(data), Follower(trail, GEAR, pool), Buffers(GEAR.maximum))  # type: ignore[arg-type]
    assert [len(chunk) for _, chunk in cut_by(GEAR, data)] == [s.end - s.start for block in found for s in block.spans]


def test_nothing_has_no_blocks(pool: ThreadPoolExecutor) -> None:
    assert followed(b"", [noise(1000)], pool) == []


def test_no_more_buffers_are_in_use_than_the_block_at_hand_and_the_next_two(pool: ThreadPoolExecutor) -> None:
    data, made = noise(40_000), []

    class Counted(Buffers):
        def take(self) -> memoryview:
            made.append(not self._idle)
            return super().take()

    buffers, catalog = Counted(GEAR.maximum), Catalog()
    trail = trail_of(catalog, [taken_up(catalog, cut_by(GEAR, data))], GEAR)
    assert trail is not None
    for block in followed_blocks(
        io.BytesIO(data),  # type: ignore[arg-type]
        len(data),
        Follower(trail, GEAR, pool),
        buffers,
    ):
        buffers.give(block.buffer)
    assert sum(made) == 3
