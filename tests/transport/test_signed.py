"""Conditional deletes: in one step where the server can, compared beforehand where it cannot, and known which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from shardflow.transport import AccessDenied, Changed
from transport.scripted_s3 import NONE, RESET, Stored, meanwhile, status

if TYPE_CHECKING:
    from shardflow.transport import Transport
    from transport.scripted_s3 import ScriptedS3


def test_a_server_that_compares_is_found_out_by_trying(server: ScriptedS3, s3: Transport) -> None:
    assert s3.conditional_deletes is True
    assert not server.objects
    asked = len(server.requests)
    assert s3.conditional_deletes is True
    assert s3.session().conditional_deletes is True
    assert len(server.requests) == asked


def test_a_server_that_pays_no_heed_is_found_out_too(server: ScriptedS3, s3: Transport) -> None:
    server.compares_before_deleting = False
    assert s3.conditional_deletes is False
    assert not server.objects


def test_a_server_that_knows_no_conditions_is_found_out_too(server: ScriptedS3, s3: Transport) -> None:
    server.next("DELETE care/probe", status(501, "NotImplemented"))
    assert s3.conditional_deletes is False
    assert not server.objects


def test_trying_it_out_survives_a_busy_server(server: ScriptedS3, s3: Transport) -> None:
    server.next("DELETE care/probe", status(503), RESET)
    assert s3.conditional_deletes is True
    assert s3.totals.retries >= 1


def test_what_replaces_an_object_in_the_last_moment_is_not_deleted(server: ScriptedS3, s3: Transport) -> None:
    old = s3.write("some", b"old")

    def replace() -> None:
        server.objects["some"] = Stored(b"new")

    server.next("DELETE some", meanwhile(replace, NONE))
    with pytest.raises(Changed, match="some"):
        s3.delete("some", if_match=old.etag)
    assert server.objects["some"].data == b"new"


def test_a_server_without_conditions_still_refuses_what_it_can_see(server: ScriptedS3, s3: Transport) -> None:
    server.compares_before_deleting = False
    old = s3.write("some", b"old")
    new = s3.write("some", b"new")
    with pytest.raises(Changed):
        s3.delete("some", if_match=old.etag)
    assert s3.delete("some", if_match=new.etag) is True
    assert not server.objects


def test_passing_failures_are_tried_again(server: ScriptedS3, s3: Transport) -> None:
    info = s3.write("some", b"data")
    assert s3.conditional_deletes
    server.next("DELETE some", status(503), RESET)
    assert s3.delete("some", if_match=info.etag) is True
    assert s3.totals.retries == 2


def test_a_refusal_says_what_to_set(server: ScriptedS3, s3: Transport) -> None:
    info = s3.write("some", b"data")
    assert s3.conditional_deletes
    server.next("DELETE some", status(403, "AccessDenied"))
    with pytest.raises(AccessDenied, match=r"cannot delete some .* 403 Forbidden \(AccessDenied\); set AWS_ACCESS"):
        s3.delete("some", if_match=info.etag)
