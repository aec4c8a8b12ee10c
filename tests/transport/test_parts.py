"""Large objects in parts, side by side: how they are cut, what a failing part does to the others."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from shardflow.errors import Cancelled, ShardflowError
from shardflow.testing.transport import pattern
from shardflow.transport import AccessDenied, Cancellation, Changed, Truncated, Unreachable
from shardflow.transport.limits import PART_BYTES, SPLIT_ABOVE, parallel_parts
from shardflow.transport.parts import read_in_parts
from transport.scripted_s3 import SHORT, Stored, meanwhile, status

if TYPE_CHECKING:
    from shardflow.transport import Transport
    from transport.scripted_s3 import ScriptedS3

LARGE = pattern(3 * PART_BYTES + 5)


def test_large_writes_go_in_parts_and_small_ones_whole(server: ScriptedS3, s3: Transport) -> None:
    s3.write("large", LARGE)
    s3.write("small", LARGE[:SPLIT_ABOVE])
    assert len(server.asked("PUT large.*partNumber")) == 4
    assert server.asked("PUT small") == ["PUT small"]
    assert server.objects["large"].data == LARGE


def test_a_large_write_with_a_condition_goes_whole(server: ScriptedS3, s3: Transport) -> None:
    s3.write("large", LARGE, if_absent=True)
    assert server.requests == ["PUT large"]


def test_an_upload_that_fails_in_its_last_step_is_made_again(server: ScriptedS3, s3: Transport) -> None:
    server.next("POST large.*uploadId", status(200, "InternalError"))  # S3 does answer so
    s3.write("large", LARGE)
    assert server.objects["large"].data == LARGE
    assert s3.totals.retries == 1


def test_large_reads_come_in_parts(server: ScriptedS3, s3: Transport) -> None:
    server.objects["large"] = Stored(LARGE)
    assert s3.read("large") == LARGE
    assert len(server.asked("GET large")) == 1 + 2  # the first 16 MiB tell how large it is
    assert s3.read_range("large", 5, len(LARGE) - 5) == LARGE[5:]
    assert len(server.asked("GET large")) == 3 + 3
    assert s3.totals.reads == 2
    assert s3.totals.bytes_received == 2 * len(LARGE) - 5


def test_only_the_part_that_failed_is_read_again(server: ScriptedS3, s3: Transport) -> None:
    server.objects["large"] = Stored(LARGE)
    server.next("GET large", SHORT, status(503))
    assert s3.read_range("large", 0, len(LARGE)) == LARGE
    assert len(server.asked("GET large")) == 4 + 2
    assert s3.totals.retries == 2


def test_an_object_replaced_while_it_is_read_is_read_anew(server: ScriptedS3, s3: Transport) -> None:
    newer = bytes(reversed(LARGE))
    server.objects["large"] = Stored(LARGE)
    calls = []

    def replace_after_the_first_part() -> None:
        calls.append(1)
        server.objects["large"] = Stored(newer)

    server.next("GET large", status(503), meanwhile(replace_after_the_first_part, status(503)))
    read = bytes(s3.read("large"))
    assert calls
    assert read == newer


def test_a_mixture_of_two_versions_is_never_returned(server: ScriptedS3, s3: Transport) -> None:
    server.objects["large"] = Stored(LARGE)
    first, info = s3._backend.read_start("large", SPLIT_ABOVE)
    server.objects["large"] = Stored(bytes(len(LARGE)))
    with pytest.raises(Changed, match="while it was read"):
        s3._backend.read_range("large", len(memoryview(first)), 10, info.etag)


def test_a_part_that_fails_for_good_fails_the_read(server: ScriptedS3, s3: Transport) -> None:
    server.objects["large"] = Stored(LARGE)
    server.next("GET large", status(403))
    with pytest.raises(AccessDenied):
        s3.read_range("large", 0, len(LARGE))


def test_the_memory_of_a_body_is_used_again_once_nobody_has_it(server: ScriptedS3, s3: Transport) -> None:
    server.objects["large"] = Stored(LARGE)

    def read(start: int) -> np.ndarray:
        return np.frombuffer(s3.read_range("large", start, 4 << 20), np.uint8)

    held, let_go = read(0), read(1).ctypes.data
    after = read(2)
    assert after.ctypes.data == let_go != held.ctypes.data
    assert bytes(held) == LARGE[: 4 << 20]
    assert bytes(after) == LARGE[2:][: 4 << 20]


def test_a_large_range_past_the_end_is_truncated(server: ScriptedS3, s3: Transport) -> None:
    server.objects["large"] = Stored(LARGE)
    with pytest.raises(Truncated, match=r"large in .* too short"):
        s3.read_range("large", 0, len(LARGE) + PART_BYTES)


def test_parts_after_a_failure_are_not_begun() -> None:
    begun = []

    def read(start: int, length: int, cancel: Cancellation) -> bytes:
        begun.append(start)
        if start == 0:
            raise Unreachable("gone")
        cancel.sleep(10)
        return bytes(length)

    started = time.monotonic()
    with pytest.raises(Unreachable, match="gone"):
        read_in_parts(read, 0, memoryview(bytearray(40 * PART_BYTES)), Cancellation())
    assert len(begun) < 40
    assert time.monotonic() - started < 8


def test_cancelling_stops_a_read_in_parts() -> None:
    cancel = Cancellation()
    threading.Timer(0.1, cancel.cancel).start()

    def read(start: int, length: int, cancel: Cancellation) -> bytes:
        cancel.sleep(10)
        return bytes(length)

    with pytest.raises(Cancelled):
        read_in_parts(read, 0, memoryview(bytearray(3 * PART_BYTES)), cancel)


def test_how_many_parts_go_at_a_time_is_set_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parallel_parts() == 8
    monkeypatch.setenv("SHARDFLOW_PARALLEL", "3")
    assert parallel_parts() == 3
    for wrong in ("0", "many", "-1", "1000"):
        monkeypatch.setenv("SHARDFLOW_PARALLEL", wrong)
        with pytest.raises(ShardflowError, match="SHARDFLOW_PARALLEL"):
            parallel_parts()
