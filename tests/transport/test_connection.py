"""From URL, environment and options to a connection: who goes where, as whom, and what wrong settings get."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from shardflow.errors import ShardflowError
from shardflow.transport import AccessDenied, StoreURL, Transport, Unreachable, connect
from shardflow.transport.az import parse_connection_string
from transport.conftest import IMPATIENT, options_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transport.scripted_s3 import ScriptedS3

NOWHERE = "http://127.0.0.1:1"
CLOUDS = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_HOST")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own settings may decide a test."""
    import os

    for name in list(os.environ):
        if name.startswith(CLOUDS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def open_store(text: str, options: Mapping[str, str] | None = None) -> Transport:
    return connect(StoreURL.parse(text), options, IMPATIENT)


def where_it_goes(transport: Transport) -> str:
    """The endpoint that a request is made to, from the error of a server that is not there."""
    with pytest.raises(Unreachable) as raised:
        transport.head("some")
    return str(raised.value)


class TestS3:
    URL = "shardflow://s3/bkt"

    def test_keys_and_endpoint_come_from_the_environment(
        self, server: ScriptedS3, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROM-ENVIRONMENT")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_REGION", "eu-north-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        open_store(self.URL).write("some", b"data")
        assert server.requests == ["PUT some"]
        assert "Credential=FROM-ENVIRONMENT/" in server.authorizations[0]
        assert "/eu-north-1/s3/" in server.authorizations[0]

    def test_the_endpoint_for_s3_alone_comes_first(self, server: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYID")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
        open_store(self.URL).write("some", b"data")
        assert server.requests == ["PUT some"]

    def test_the_endpoint_may_be_called_as_boto3_calls_it(self, server: ScriptedS3) -> None:
        options = options_for(server)
        options["endpoint_url"] = options.pop("endpoint")
        open_store(self.URL, options).write("some", b"data")
        assert server.requests == ["PUT some"]

    def test_options_come_before_the_environment(self, server: ScriptedS3, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROM-ENVIRONMENT")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
        open_store(self.URL, options_for(server)).write("some", b"data")
        assert "Credential=KEYID/" in server.authorizations[0]

    def test_a_profile_is_read_from_the_shared_files(
        self, server: ScriptedS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/credentials").write_text(
            "[default]\naws_access_key_id = DEFAULT\naws_secret_access_key = secret\n"
            "[work]\naws_access_key_id = WORK\naws_secret_access_key = secret\n"
        )
        (tmp_path / ".aws/config").write_text("[profile work]\nregion = eu-north-1\n")
        open_store(self.URL, {"endpoint": server.endpoint}).write("some", b"data")
        monkeypatch.setenv("AWS_PROFILE", "work")
        open_store(self.URL, {"endpoint": server.endpoint}).write("some", b"data")
        assert "Credential=DEFAULT/" in server.authorizations[0]
        assert "Credential=WORK/" in server.authorizations[1]
        assert "/eu-north-1/s3/" in server.authorizations[1]

    def test_a_profile_may_be_named_in_the_options(self, server: ScriptedS3, tmp_path: Path) -> None:
        (tmp_path / ".aws").mkdir()
        (tmp_path / ".aws/credentials").write_text("[w]\naws_access_key_id = W\naws_secret_access_key = secret\n")
        open_store(self.URL, {"endpoint": server.endpoint, "profile": "w"}).write("some", b"data")
        assert "Credential=W/" in server.authorizations[0]

    def test_a_profile_that_is_not_there_is_named(self) -> None:
        with pytest.raises(AccessDenied, match=r"profile \(nobody\).*AWS_PROFILE"):
            open_store(self.URL, {"profile": "nobody"})

    def test_without_credentials_it_says_which_to_set(self) -> None:
        with pytest.raises(AccessDenied, match=r"no credentials for S3.*set AWS_ACCESS_KEY_ID"):
            open_store(self.URL)

    def test_a_public_bucket_needs_no_credentials(self, server: ScriptedS3) -> None:
        open_store(self.URL, {"endpoint": server.endpoint, "skip_signature": "true"}).write("some", b"data")
        assert server.authorizations == [""]

    def test_the_prefix_is_part_of_every_key(self, server: ScriptedS3) -> None:
        transport = open_store("shardflow://s3/bkt/models/main", options_for(server))
        transport.write("tree/some", b"data")
        assert list(server.objects) == ["models/main/tree/some"]
        assert transport.head("tree/some").key == "tree/some"
        assert [info.key for info in transport.list()] == ["tree/some"]

    def test_an_unknown_option_is_named(self) -> None:
        with pytest.raises(ShardflowError, match=r"'colour'.*take the option out"):
            open_store(self.URL, {"access_key_id": "a", "secret_access_key": "b", "colour": "red"})

    @pytest.mark.parametrize("seconds", ["soon", "0", "-1", "1.5"])
    def test_timeouts_are_whole_seconds(self, seconds: str) -> None:
        with pytest.raises(ShardflowError, match="option timeout is"):
            open_store(self.URL, {"access_key_id": "a", "secret_access_key": "b", "timeout": seconds})


class TestGCS:
    URL = "shardflow://gs/bkt"

    @pytest.mark.parametrize("host", ["127.0.0.1:1", "http://127.0.0.1:1"])
    def test_goes_to_the_emulator_without_asking_for_a_token(self, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        assert "gs/bkt at http://127.0.0.1:1: connection refused" in where_it_goes(open_store(self.URL))

    def test_an_endpoint_may_be_an_option(self) -> None:
        assert f"at {NOWHERE}: connection refused" in where_it_goes(open_store(self.URL, {"endpoint": NOWHERE}))

    def test_a_key_file_may_name_another_server(self) -> None:
        account = {"gcs_base_url": NOWHERE, "disable_oauth": True, "client_email": "", "private_key": ""}
        options = {"service_account_key": json.dumps({**account, "private_key_id": ""}), "allow_http": "true"}
        assert f"connection refused ({NOWHERE})" in where_it_goes(open_store(self.URL, options))

    def test_plain_http_has_to_be_allowed(self) -> None:
        account = {"gcs_base_url": NOWHERE, "disable_oauth": True, "client_email": "", "private_key": ""}
        options = {"service_account_key": json.dumps({**account, "private_key_id": ""})}
        with pytest.raises(ShardflowError, match=r"the endpoint is plain http .* allow_http=true"):
            open_store(self.URL, options).head("some")

    def test_a_key_that_cannot_be_read_is_told_in_one_line(self) -> None:
        with pytest.raises(ShardflowError, match="options do not fit together") as raised:
            open_store(self.URL, {"service_account_key": "{"})
        assert "\n" not in str(raised.value)


class TestAzure:
    URL = "shardflow://az/container"
    KEY = "bm90IGEga2V5"

    def test_a_connection_string_says_it_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text = f"DefaultEndpointsProtocol=http;AccountName=me;AccountKey={self.KEY};BlobEndpoint={NOWHERE}/me;"
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
        assert f"at {NOWHERE}/me: connection refused" in where_it_goes(open_store(self.URL))
        monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
        assert f"at {NOWHERE}/me: " in where_it_goes(open_store(self.URL, {"connection_string": text}))

    @pytest.mark.parametrize("names", ["ACCOUNT_NAME ACCOUNT_KEY", "ACCOUNT KEY"])
    def test_single_variables_do_as_well(self, names: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in zip(names.split(), ("me", self.KEY), strict=True):
            monkeypatch.setenv(f"AZURE_STORAGE_{name}", value)
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", f"{NOWHERE}/me")
        assert f"at {NOWHERE}/me: connection refused" in where_it_goes(open_store(self.URL))

    def test_options_come_before_a_connection_string(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=other;AccountKey=x;EndpointSuffix=invalid")
        options = {"account_name": "me", "account_key": self.KEY, "endpoint": f"{NOWHERE}/me"}
        assert f"at {NOWHERE}/me: connection refused" in where_it_goes(open_store(self.URL, options))

    def test_without_an_account_it_says_what_to_set(self) -> None:
        with pytest.raises(AccessDenied, match="set AZURE_STORAGE_CONNECTION_STRING"):
            open_store(self.URL)

    def test_reads_connection_strings_as_azure_writes_them(self) -> None:
        text = "DefaultEndpointsProtocol=https;AccountName=me;AccountKey=a2V5PT0=;EndpointSuffix=core.windows.net"
        assert parse_connection_string(text) == {
            "account_name": "me",
            "account_key": "a2V5PT0=",
            "endpoint": "https://me.blob.core.windows.net",
        }
        assert parse_connection_string("UseDevelopmentStorage=true") == {"use_emulator": "true"}
        assert parse_connection_string("BlobEndpoint=https://h/;SharedAccessSignature=sv=1&sig=x%3D") == {
            "endpoint": "https://h/",
            "sas_key": "sv=1&sig=x%3D",
        }

    @pytest.mark.parametrize("text", ["me", ";;", "AccountName"])
    def test_refuses_a_connection_string_that_is_none(self, text: str) -> None:
        with pytest.raises(ShardflowError, match="connection string is not valid"):
            parse_connection_string(text)


CLOUD_URLS = ["shardflow://s3/bkt", "shardflow://gs/bkt", "shardflow://az/container"]


@pytest.fixture
def known_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.setenv(name, "me")
    monkeypatch.setenv("AZURE_STORAGE_KEY", TestAzure.KEY)


@pytest.mark.usefixtures("known_everywhere")
@pytest.mark.parametrize("url", CLOUD_URLS)
@pytest.mark.parametrize("query", ["", "?sig=SECRET"])
def test_no_error_repeats_what_is_secret_in_an_endpoint(url: str, query: str) -> None:
    told = where_it_goes(open_store(url, {"endpoint": f"http://me:SECRET@127.0.0.1:1{query}"}))
    assert "at http://127.0.0.1:1: connection refused" in told
    assert "SECRET" not in told


@pytest.mark.usefixtures("known_everywhere")
@pytest.mark.parametrize("url", CLOUD_URLS)
def test_an_endpoint_that_is_none_is_refused_before_a_request(url: str) -> None:
    with pytest.raises(ShardflowError, match=r"endpoint 'http://127.0.0.1:9x' is no address of a server; write it as"):
        open_store(url, {"endpoint": "http://127.0.0.1:9x"})


@pytest.mark.usefixtures("known_everywhere")
@pytest.mark.parametrize(
    ("url", "variable"), [("shardflow://s3/bkt", "AWS_ENDPOINT"), ("shardflow://az/bkt", "AZURE_ENDPOINT")]
)
def test_so_is_one_in_a_variable_that_only_obstore_knows(
    url: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "127.0.0.1:9x")
    with pytest.raises(ShardflowError, match=r"endpoint '127.0.0.1:9x' is no address of a server"):
        open_store(url)
    monkeypatch.setenv(variable, NOWHERE)
    assert f"at {NOWHERE}: connection refused" in where_it_goes(open_store(url))


@pytest.mark.parametrize("name", ["endpoint", "endpoint_url", "aws_endpoint", "aws_endpoint_url"])
def test_and_in_an_option_by_any_of_its_names(name: str) -> None:
    with pytest.raises(ShardflowError, match=r"endpoint '127.0.0.1:9x' is no address of a server"):
        open_store("shardflow://s3/bkt", {name: "127.0.0.1:9x"})


@pytest.mark.parametrize("url", ["shardflow://memory/x", "shardflow://file/tmp/x"])
def test_stores_on_this_machine_have_no_options(url: str) -> None:
    with pytest.raises(ShardflowError, match="have no options, but region was given"):
        open_store(url, {"region": "here"})


def test_memory_stores_of_one_name_are_one_store() -> None:
    open_store("shardflow://memory/shared/a").write("some", b"data")
    assert open_store("shardflow://memory/shared").read("a/some") == b"data"


def test_fsync_is_switched_by_0_or_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARDFLOW_FSYNC", "no")
    with pytest.raises(ShardflowError, match="SHARDFLOW_FSYNC is 'no'; set it to 0 or 1"):
        open_store("shardflow://file/tmp/x")
