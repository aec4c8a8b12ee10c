"""Writes and deletes whose answers are lost on the way: done once, and told truthfully."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shardflow.transport import AlreadyThere, Changed
from transport.scripted_s3 import LOST, RESET, Stored, meanwhile, status

if TYPE_CHECKING:
    from shardflow.transport import Transport
    from transport.scripted_s3 import ScriptedS3

LARGE = bytes(17 << 20)


def test_a_create_whose_answer_was_lost_has_succeeded(server: ScriptedS3, s3: Transport) -> None:
    server.next("PUT", LOST)
    info = s3.write("some", b"mine", if_absent=True)
    assert server.asked("PUT") == ["PUT some", "PUT some"]
    assert (info.size, info.etag) == (4, server.objects["some"].etag)


def test_a_create_that_was_lost_and_overtaken_is_refused(server: ScriptedS3, s3: Transport) -> None:
    def overtake() -> None:
        server.objects["some"] = Stored(b"theirs")

    server.next("PUT", meanwhile(overtake, RESET))
    with pytest.raises(AlreadyThere, match="some"):
        s3.write("some", b"mine", if_absent=True)
    assert server.objects["some"].data == b"theirs"


def test_the_same_content_from_another_writer_is_not_taken_for_ours(server: ScriptedS3, s3: Transport) -> None:
    def overtake() -> None:
        server.objects["some"] = Stored(b"same", {"x-amz-meta-shardflow_write": "someone else"})

    server.next("PUT", meanwhile(overtake, status(500)))
    with pytest.raises(AlreadyThere):
        s3.write("some", b"same", if_absent=True)


def test_a_create_that_found_something_is_believed_at_once(server: ScriptedS3, s3: Transport) -> None:
    server.objects["some"] = Stored(b"theirs")
    with pytest.raises(AlreadyThere):
        s3.write("some", b"mine", if_absent=True)
    assert server.requests == ["PUT some"]


def test_an_update_whose_answer_was_lost_has_succeeded(server: ScriptedS3, s3: Transport) -> None:
    first = s3.write("some", b"first")
    server.next("PUT", LOST, status(503))
    second = s3.write("some", b"second", if_match=first.etag)
    assert server.objects["some"].data == b"second"
    assert second.etag == server.objects["some"].etag


def test_an_update_that_was_overtaken_is_refused(server: ScriptedS3, s3: Transport) -> None:
    first = s3.write("some", b"first")

    def overtake() -> None:
        server.objects["some"] = Stored(b"theirs")

    server.next("PUT", meanwhile(overtake, status(503)))
    with pytest.raises(Changed, match="some"):
        s3.write("some", b"second", if_match=first.etag)
    assert server.objects["some"].data == b"theirs"


def test_an_update_of_what_was_deleted_meanwhile_is_refused(server: ScriptedS3, s3: Transport) -> None:
    first = s3.write("some", b"first")
    server.next("PUT", meanwhile(server.objects.clear, RESET))
    with pytest.raises(Changed):
        s3.write("some", b"second", if_match=first.etag)
    assert not server.objects


def test_a_pack_that_arrived_is_not_sent_again(server: ScriptedS3, s3: Transport) -> None:
    server.next("PUT", LOST)
    s3.write("packs/ab/1", b"data", content_addressed=True)
    assert server.requests == ["PUT packs/ab/1", "HEAD packs/ab/1"]


def test_a_large_pack_that_arrived_is_not_sent_again(server: ScriptedS3, s3: Transport) -> None:
    server.next("POST .*uploadId", LOST)
    s3.write("packs/ab/1", LARGE, content_addressed=True)
    assert len(server.asked("partNumber")) == 3
    assert server.objects["packs/ab/1"].data == LARGE


def test_a_pack_that_did_not_arrive_is_sent_again(server: ScriptedS3, s3: Transport) -> None:
    server.objects["packs/ab/1"] = Stored(b"older, of another size")
    server.next("PUT", RESET)
    s3.write("packs/ab/1", b"data", content_addressed=True)
    assert server.requests == ["PUT packs/ab/1", "HEAD packs/ab/1", "PUT packs/ab/1"]
    assert server.objects["packs/ab/1"].data == b"data"


def test_parts_of_an_upload_that_failed_are_given_up(server: ScriptedS3, s3: Transport) -> None:
    server.next("partNumber", status(503))
    s3.write("packs/ab/1", LARGE)
    assert server.objects["packs/ab/1"].data == LARGE
    assert not server.uploads
    assert s3.totals.retries == 1


def test_a_plain_write_is_simply_sent_again(server: ScriptedS3, s3: Transport) -> None:
    server.next("PUT", LOST)
    s3.write("some", b"data")
    assert server.requests == ["PUT some", "PUT some"]


def test_a_delete_whose_answer_was_lost_did_delete(server: ScriptedS3, s3: Transport) -> None:
    s3.write("some", b"data")
    server.next("DELETE some", LOST)
    assert s3.delete("some") is True
    assert s3.delete("some") is False


def test_a_conditional_delete_whose_answer_was_lost_did_delete(server: ScriptedS3, s3: Transport) -> None:
    etag = s3.write("some", b"data").etag
    server.next("DELETE some", LOST)
    assert s3.delete("some", if_match=etag) is True
    assert "some" not in server.objects
