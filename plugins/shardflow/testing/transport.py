"""What every transport must do, whatever is behind it: a suite to subclass.

    class TestMyBackend(TransportContract):
        @pytest.fixture
        def transport(self) -> Transport:
            return connect(StoreURL.parse("shardflow://..."))

The fixture gives a transport on an empty prefix, a fresh one for each test.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shardflow.errors import Cancelled
from shardflow.transport import (
    AlreadyThere,
    Cancellation,
    Changed,
    NewObject,
    ObjectMissing,
    Totals,
    Transport,
    Truncated,
)

LARGE = (17 << 20) + 5
"""Just enough for several parts, the last one short."""


def pattern(size: int) -> bytes:
    """Bytes in which every place can be told from its neighbours."""
    block = b"".join(number.to_bytes(4, "big") for number in range(1 << 14))
    return (block * (size // len(block) + 1))[:size]


class TransportContract:
    """Tests over a `transport` fixture, which the subclass provides."""

    some_keys = ("tree/a%20b/c", "tree/a%2Fb", "packs/ab/abcdef", "x", "a+b=c/~d'(e),f@g", "tree/%25", "a/b.c/..d")
    """Characters that URLs, XML and paths each treat in their own way."""

    listed_at_once = 1000
    """Keys in one page of a listing; the suite writes a few more."""

    @pytest.mark.parametrize("size", [0, 1, 65_537])
    def test_reads_back_what_was_written(self, transport: Transport, size: int) -> None:
        data = pattern(size)
        info = transport.write("tree/some", data)
        assert bytes(transport.read("tree/some")) == data
        assert (info.key, info.size) == ("tree/some", size)

    def test_large_objects_come_back_whole(self, transport: Transport) -> None:
        data = pattern(LARGE)
        transport.write("packs/large", data)
        assert bytes(transport.read("packs/large")) == data
        assert transport.head("packs/large").size == LARGE

    def test_large_ranges_come_back_exactly(self, transport: Transport) -> None:
        data = pattern(LARGE)
        transport.write("packs/large", data)
        assert bytes(transport.read_range("packs/large", 3, LARGE - 4)) == data[3:-1]
        assert bytes(transport.read_range("packs/large", LARGE - 7, 7)) == data[-7:]

    def test_any_bytes_like_object_can_be_written(self, transport: Transport) -> None:
        words = memoryview(bytearray(b"abcdefgh")).cast("I")
        for data in (bytearray(b"abc"), memoryview(b"xabcx")[1:4], words, words.cast("B", (2, 4)), words[:0], b""):
            transport.write("some", data)
            assert transport.read("some") == memoryview(data).tobytes()

    def test_a_buffer_may_be_used_again_after_a_write(self, transport: Transport) -> None:
        buffer = bytearray(b"before")
        transport.write("some", buffer)
        buffer[:] = b"after!"
        assert bytes(transport.read("some")) == b"before"

    def test_a_second_write_replaces_the_first(self, transport: Transport) -> None:
        transport.write("some", b"a longer first version")
        transport.write("some", b"second")
        assert bytes(transport.read("some")) == b"second"

    def test_ranges_are_exact(self, transport: Transport) -> None:
        transport.write("some", b"0123456789")
        assert bytes(transport.read_range("some", 0, 10)) == b"0123456789"
        assert bytes(transport.read_range("some", 3, 4)) == b"3456"
        assert bytes(transport.read_range("some", 9, 1)) == b"9"
        assert bytes(transport.read_range("some", 5, 0)) == b""

    @pytest.mark.parametrize("sizes", [[10], [3, 0, 4], [1] * 10, [2, 5]])
    def test_a_range_fills_memory_that_is_there_part_by_part(self, transport: Transport, sizes: list[int]) -> None:
        transport.write("some", b"xx0123456789xx")
        parts = [memoryview(bytearray(size)) for size in sizes]
        transport.read_into("some", 2, parts)
        assert b"".join(parts) == b"0123456789"[: sum(sizes)]

    def test_large_ranges_fill_large_parts(self, transport: Transport) -> None:
        data = pattern(LARGE)
        transport.write("packs/large", data)
        for first in (5_000_000, LARGE - 10):
            parts = [memoryview(bytearray(size)) for size in (first, LARGE - 3 - first)]
            transport.read_into("packs/large", 3, parts)
            assert b"".join(parts) == data[3:]

    def test_parts_that_reach_past_the_end_are_an_error(self, transport: Transport) -> None:
        transport.write("some", b"0123456789")
        for sizes in ([3, 4], [8]):
            with pytest.raises(Truncated, match=r"some in .* wanted"):
                transport.read_into("some", 5, [memoryview(bytearray(size)) for size in sizes])

    @pytest.mark.parametrize(("start", "length", "got"), [(8, 5, 2), (10, 1, 0), (1000, 10, 0)])
    def test_a_range_past_the_end_says_what_was_wanted_and_got(
        self, transport: Transport, start: int, length: int, got: int
    ) -> None:
        transport.write("some", b"0123456789")
        with pytest.raises(Truncated, match=f"some in .* wanted {length} bytes at {start}") as raised:
            transport.read_range("some", start, length)
        assert raised.value.wanted == length
        assert raised.value.got in (got, 0)  # a server that refuses the range does not tell the size

    def test_what_is_missing_is_named(self, transport: Transport) -> None:
        for look in (transport.read, transport.head, lambda key: transport.read_range(key, 0, 1)):
            with pytest.raises(ObjectMissing, match="not/there"):
                look("not/there")

    @pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "a/../b", "./a", "a\nb", "é", ".incoming/x", "a" * 2000])
    def test_keys_no_backend_could_hold_are_refused(self, transport: Transport, key: str) -> None:
        with pytest.raises(ValueError, match="object key"):
            transport.write(key, b"")

    def test_unusual_characters_stay_as_they_are(self, transport: Transport) -> None:
        for key in self.some_keys:
            transport.write(key, key.encode())
        assert sorted(info.key for info in transport.list()) == sorted(self.some_keys)
        for key in self.some_keys:
            assert bytes(transport.read(key)) == key.encode()
            assert transport.delete(key)
        assert not list(transport.list())

    def test_an_etag_is_the_same_wherever_it_is_told(self, transport: Transport) -> None:
        written = transport.write("tree/some", b"data")
        assert written.etag
        assert written.etag == transport.head("tree/some").etag
        assert [info.etag for info in transport.list("tree")] == [written.etag]

    def test_an_etag_changes_with_the_content(self, transport: Transport) -> None:
        etags = [transport.write("some", f"{number:04}".encode()).etag for number in range(20)]
        assert len(set(etags)) == 20

    def test_create_only_refuses_to_replace(self, transport: Transport) -> None:
        transport.write("some", b"first", if_absent=True)
        with pytest.raises(AlreadyThere, match="some"):
            transport.write("some", b"second", if_absent=True)
        assert bytes(transport.read("some")) == b"first"

    def test_many_are_written_as_each_would_be(self, transport: Transport) -> None:
        transport.write("tree/0/0", b"before")
        objects = [NewObject(f"tree/{number % 3}/{number}", memoryview(pattern(number))) for number in range(40)]
        assert transport.write_all(objects) == [None] * 40
        assert [bytes(transport.read(new.key)) for new in objects] == [pattern(number) for number in range(40)]
        assert transport.write_all([]) == []
        assert transport.together >= 1

    def test_among_many_those_that_must_not_replace_are_refused_by_name(self, transport: Transport) -> None:
        transport.write("some/1", b"first")
        objects = [NewObject(f"some/{number}", memoryview(b"second"), if_absent=True) for number in range(3)]
        failures = transport.write_all(objects)
        assert [type(failure) for failure in failures] == [type(None), AlreadyThere, type(None)]
        assert "some/1" in str(failures[1])
        assert [bytes(transport.read(new.key)) for new in objects] == [b"second", b"first", b"second"]

    def test_large_objects_can_be_create_only(self, transport: Transport) -> None:
        data = pattern(LARGE)
        transport.write("packs/large", data, if_absent=True)
        with pytest.raises(AlreadyThere):
            transport.write("packs/large", data, if_absent=True)
        assert bytes(transport.read("packs/large")) == data

    def test_of_many_creators_exactly_one_wins(self, transport: Transport) -> None:
        def create(number: int) -> bytes | None:
            data = f"written by {number}".encode()
            try:
                transport.write("one", data, if_absent=True)
            except AlreadyThere:
                return None
            return data

        with ThreadPoolExecutor(8) as threads:
            winners = [data for data in threads.map(create, range(8)) if data]
        assert winners == [bytes(transport.read("one"))]

    def test_a_conditional_write_replaces_only_its_version(self, transport: Transport) -> None:
        first = transport.write("some", b"first")
        second = transport.write("some", b"second", if_match=first.etag)
        with pytest.raises(Changed, match="some"):
            transport.write("some", b"third", if_match=first.etag)
        assert bytes(transport.read("some")) == b"second"
        assert second.etag == transport.head("some").etag

    def test_a_conditional_write_to_nothing_is_refused(self, transport: Transport) -> None:
        gone = transport.write("some", b"first")
        transport.delete("some")
        with pytest.raises(Changed):
            transport.write("some", b"second", if_match=gone.etag)
        with pytest.raises(ObjectMissing):
            transport.head("some")

    def test_no_update_is_lost_among_conditional_writers(self, transport: Transport) -> None:
        transport.write("count", b"0")

        def add_one(_: int) -> None:
            while True:
                before = transport.head("count")
                number = int(bytes(transport.read("count")))
                try:
                    transport.write("count", str(number + 1).encode(), if_match=before.etag)
                except Changed:
                    continue
                return

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(add_one, range(12)))
        assert bytes(transport.read("count")) == b"12"

    def test_a_deleted_object_is_gone(self, transport: Transport) -> None:
        transport.write("tree/some", b"data")
        assert transport.delete("tree/some") is True
        assert transport.delete("tree/some") is False
        assert transport.list_names() == ([], [])

    def test_a_conditional_delete_takes_only_its_version(self, transport: Transport) -> None:
        first = transport.write("some", b"first")
        second = transport.write("some", b"second")
        with pytest.raises(Changed, match="some"):
            transport.delete("some", if_match=first.etag)
        assert bytes(transport.read("some")) == b"second"
        assert transport.delete("some", if_match=second.etag) is True
        assert transport.delete("some", if_match=second.etag) is False

    def test_says_whether_deletes_can_be_conditional(self, transport: Transport) -> None:
        assert transport.conditional_deletes in (True, False)
        assert not list(transport.list())

    def test_lists_below_whole_segments(self, transport: Transport) -> None:
        for key in ("packs/ab/1", "packs/ab/2", "packs/cd/3", "packs2/4", "top"):
            transport.write(key, key.encode())
        assert [info.key for info in transport.list("packs/ab")] == ["packs/ab/1", "packs/ab/2"]
        assert [info.key for info in transport.list("packs/")] == ["packs/ab/1", "packs/ab/2", "packs/cd/3"]
        assert len(list(transport.list())) == 5
        assert [info.size for info in transport.list("packs/cd")] == [10]
        assert not list(transport.list("pack"))
        assert not list(transport.list("nothing/here"))

    def test_lists_on_from_a_key(self, transport: Transport) -> None:
        keys = ["p/a", "p/a-b", "p/a/c", "p/b"]
        for key in (key for key in keys if key != "p/a"):  # a file system cannot hold both p/a and p/a/c
            transport.write(key, b"")
        assert [info.key for info in transport.list("p", after="p/a-b")] == ["p/a/c", "p/b"]
        assert [info.key for info in transport.list(after="p/a")] == ["p/a-b", "p/a/c", "p/b"]
        assert not list(transport.list("p", after="p/b"))

    def test_lists_more_than_one_page(self, transport: Transport) -> None:
        keys = [f"many/{number:05}" for number in range(self.listed_at_once + 5)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda key: transport.write(key, b""), keys))
        assert [info.key for info in transport.list("many")] == keys

    def test_names_one_level(self, transport: Transport) -> None:
        for key in ("tree/b/c/d", "tree/b/e", "tree/f", "tree/a%20a", "other"):
            transport.write(key, b"")
        assert transport.list_names() == (["tree"], ["other"])
        assert transport.list_names("tree") == (["b"], ["a%20a", "f"])
        assert transport.list_names("tree/b") == (["c"], ["e"])
        assert transport.list_names("tree/nothing") == ([], [])

    def test_a_directory_goes_with_its_last_object(self, transport: Transport) -> None:
        transport.write("tree/a/b/c", b"")
        transport.write("tree/d", b"")
        transport.delete("tree/a/b/c")
        assert transport.list_names("tree") == ([], ["d"])

    def test_tells_the_stores_own_time(self, transport: Transport) -> None:
        transport.write("some", b"")
        written = transport.head("some").modified
        now = transport.clock()
        assert -1.0 <= now - written < 60.0  # some stores count in whole seconds
        assert [info.key for info in transport.list()] == ["some"]

    def test_a_cancelled_session_sends_nothing(self, transport: Transport) -> None:
        cancel = Cancellation()
        session = transport.session(cancel)
        cancel.cancel("enough")
        with pytest.raises(Cancelled, match="enough"):
            session.write("some", b"data")
        with pytest.raises(ObjectMissing):
            transport.head("some")

    def test_a_session_counts_for_itself(self, transport: Transport) -> None:
        totals = Totals()
        session = transport.session(totals=totals)
        transport.write("other", b"not counted")
        session.write("some", b"12345")
        session.read_range("some", 1, 3)
        session.read("some")
        session.delete("some")
        moved = (totals.bytes_sent, totals.bytes_received, totals.objects_written, totals.objects_deleted, totals.reads)
        assert moved == (5, 8, 1, 1, 2)

    def test_many_threads_may_share_one_transport(self, transport: Transport) -> None:
        def round_trip(number: int) -> bool:
            key, data = f"thread/{number % 4}/{number}", pattern(1000 + number)
            transport.write(key, data)
            return transport.read_range(key, 10, 500) == data[10:510] and transport.delete(key)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(round_trip, range(40)))
        assert transport.list_names() == ([], [])

    def test_a_reader_never_sees_half_a_write(self, transport: Transport) -> None:
        versions = [bytes([number]) * (50_000 + number) for number in range(10)]
        transport.write("some", versions[0])
        with ThreadPoolExecutor(1) as threads:
            writing = threads.submit(lambda: [transport.write("some", version) for version in versions])
            seen = {bytes(transport.read("some"))}
            while not writing.done():
                seen.add(bytes(transport.read("some")))
                time.sleep(0.001)
        assert seen <= set(versions)
