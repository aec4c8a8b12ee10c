"""A remote's options: under DVC's names in the configuration, under the transport's when the store is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dvc import config_schema
from voluptuous import Invalid

from shardflow.dvc.options import OPTIONS, REFUSED, REFUSED_ANYWHERE, checked_section, transport_options
from shardflow.dvc.remote import ShardflowFileSystem

BUCKET = "shardflow://s3/bucket/x"
OF_DVC = getattr(config_schema, "REMOTE_SCHEMAS", {})  # releases before September 2025 do not show them
OUR_NAMES = {"s3": "s3", "gs": "gs", "azure": "az"}
DOCUMENTED = (Path(__file__).parents[3] / "docs" / "dvc.md").read_text().splitlines()


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
        ("s3", {"ssl_verify": False}, {"ssl_verify": "false"}),
        ("s3", {"ssl_verify": "lab.pem"}, {"ssl_verify": "lab.pem"}),
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
        {"url": BUCKET, "connect_timeout": "0"},
        {"url": BUCKET, "use_ssl": "maybe"},
        {"url": "shardflow:x"},
        {"url": "shardflow://nowhere/x"},
    ],
)
def test_what_a_backend_cannot_do_is_refused(section: dict[str, str]) -> None:
    with pytest.raises(Invalid):
        checked_section(section)


@pytest.mark.parametrize(("given", "meant"), [("false", False), ("true", True), ("lab.pem", "lab.pem")])
def test_certificates_are_a_switch_or_a_file(given: str, meant: bool | str) -> None:
    assert checked_section({"url": BUCKET, "ssl_verify": given})["ssl_verify"] == meant


@pytest.mark.parametrize(
    ("backend", "name", "remedy"),
    [
        (backend, name, remedy)
        for backend, refused in {**REFUSED, "file": REFUSED_ANYWHERE}.items()
        for name, remedy in refused.items()
    ],
)
def test_what_a_store_cannot_do_is_refused_by_name_with_what_to_do(backend: str, name: str, remedy: str) -> None:
    with pytest.raises(Invalid, match=f"stores do not have the option {name}: ") as refused:
        checked_section({"url": f"shardflow://{backend}/bucket/x", name: "true"})
    assert remedy in str(refused.value)
    assert refused.value.path == [name]


@pytest.mark.parametrize("dvcs", sorted(OUR_NAMES.keys() & OF_DVC.keys()))
def test_every_option_of_dvcs_own_remote_is_taken_or_refused_and_documented(dvcs: str) -> None:
    ours = OUR_NAMES[dvcs]
    names = {str(name) for name in OF_DVC[dvcs]}
    taken = {*OPTIONS[ours], "url", "jobs", "checksum_jobs", "verify"}
    refused = REFUSED[ours].keys() | REFUSED_ANYWHERE.keys()
    assert names == taken | refused
    assert not taken & refused
    row = next(line for line in DOCUMENTED if line.startswith(f"| `{ours}` | `"))
    assert {name for name in OPTIONS[ours] if f"`{name}`" not in row} == set()
    assert {name for name in refused if not any(f"`{name}`" in line for line in DOCUMENTED)} == set()


def test_a_release_of_dvc_that_asks_classes_for_their_options_finds_them_all() -> None:
    names = {str(name) for name in ShardflowFileSystem.REMOTE_CONFIG}
    assert names >= {name for options in OPTIONS.values() for name in options}
