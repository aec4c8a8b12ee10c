"""A remote's options: under DVC's names in the configuration, under the transport's when the store is reached."""

from __future__ import annotations

from typing import Any

import pytest
from voluptuous import Invalid

from shardflow.dvc.options import OPTIONS, checked_section, transport_options
from shardflow.dvc.remote import ShardflowFileSystem

BUCKET = "shardflow://s3/bucket/x"


@pytest.mark.parametrize(
    ("backend", "given", "taken"),
    [
        ("s3", {"endpointurl": "http://h:1", "region": "r"}, {"endpoint": "http://h:1", "region": "r"}),
        ("s3", {"endpointurl": "h:1", "use_ssl": False}, {"endpoint": "http://h:1"}),
        ("s3", {"endpointurl": "h:1"}, {"endpoint": "https://h:1"}),
        ("s3", {"allow_anonymous_login": True}, {"skip_signature": "true"}),
        ("s3", {"sse": "aws:kms", "sse_kms_key_id": "k"}, {"server_side_encryption": "aws:kms", "sse_kms_key_id": "k"}),
        ("s3", {"sse_customer_key": "YQ=="}, {"sse_customer_key_base64": "YQ==", "server_side_encryption": "sse-c"}),
        ("s3", {"connect_timeout": 5, "session_token": "t"}, {"connect_timeout": "5", "session_token": "t"}),
        ("gs", {"credentialpath": "key.json"}, {"application_credentials": "key.json"}),
        ("gs", {"endpointurl": "http://h:1"}, {"endpoint": "http://h:1"}),
        ("az", {"sas_token": "s", "account_name": "n"}, {"sas_key": "s", "account_name": "n"}),
        ("az", {"connection_timeout": 5, "timeout": 9}, {"connect_timeout": "5", "timeout": "9"}),
        ("file", {"jobs": 3, "root": "x"}, {}),
    ],
)
def test_dvcs_names_become_the_transports(backend: str, given: dict[str, Any], taken: dict[str, str]) -> None:
    assert transport_options(backend, given) == (taken, {})


def test_files_with_credentials_are_named_by_the_variables_that_the_sdk_reads() -> None:
    given = {"credentialpath": "here/credentials", "configpath": "here/config"}
    variables = {"AWS_SHARED_CREDENTIALS_FILE": "here/credentials", "AWS_CONFIG_FILE": "here/config"}
    assert transport_options("s3", given) == ({}, variables)


def test_values_are_taken_as_dvc_writes_them() -> None:
    section = {"url": BUCKET, "jobs": "4", "use_ssl": "false", "connect_timeout": "5", "verify": "true"}
    checked = checked_section(section)
    assert checked == {"url": BUCKET, "jobs": 4, "use_ssl": False, "connect_timeout": 5, "verify": True}


@pytest.mark.parametrize(
    "section",
    [
        {"url": BUCKET, "account_name": "x"},
        {"url": "shardflow://file/x", "region": "r"},
        {"url": BUCKET, "worktree": "true"},
        {"url": BUCKET, "connect_timeout": "0"},
        {"url": BUCKET, "use_ssl": "maybe"},
        {"url": "shardflow:x"},
        {"url": "shardflow://nowhere/x"},
    ],
)
def test_what_a_backend_cannot_do_is_refused(section: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        checked_section(section)


def test_a_release_of_dvc_that_asks_classes_for_their_options_finds_them_all() -> None:
    names = {str(name) for name in ShardflowFileSystem.REMOTE_CONFIG}
    assert names >= {name for options in OPTIONS.values() for name in options}
