"""Store URLs: one form, nothing decoded, and every other form refused with the right one beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shardflow.transport import StoreURL, WrongURL

if TYPE_CHECKING:
    from pathlib import Path

segment = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/@"), min_size=1, max_size=12
).filter(lambda text: text not in (".", ".."))
below = st.lists(segment, max_size=4)


@pytest.mark.parametrize(
    ("text", "backend", "path"),
    [
        ("shardflow://file/data/store", "file", "/data/store"),
        ("shardflow://file/", "file", "/"),
        ("shardflow://file//data/./store/", "file", "/data/store"),
        ("shardflow://s3/bucket", "s3", "bucket"),
        ("shardflow://s3/bucket/a%20b/c?d#e", "s3", "bucket/a%20b/c?d#e"),
        ("shardflow://az/container/prefix/", "az", "container/prefix"),
        ("shardflow://gs/bucket/x:y", "gs", "bucket/x:y"),
        ("shardflow://memory/name", "memory", "name"),
    ],
)
def test_reads_the_one_form(text: str, backend: str, path: str) -> None:
    assert StoreURL.parse(text) == StoreURL(backend, path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("shardflow:///data/store", "names no backend; write shardflow://file/data/store"),
        ("shardflow:/data", "names no backend; write shardflow://file/data"),
        ("shardflow:data", "names no backend"),
        ("shardflow://", "names no backend"),
        ("shardflow://data/store", "'data' is not a backend"),
        ("shardflow://s3:9000/bucket", "'s3:9000' is not a backend"),
        ("shardflow+s3://bucket/p", "has a '[+]' in it; write shardflow://s3/bucket/p"),
        ("shardflow+ftp://host/p", "has a '[+]' in it; write shardflow://<backend>/host/p"),
        ("s3://bucket/p", "write shardflow://s3/bucket/p"),
        ("gs://bucket/p", "write shardflow://gs/bucket/p"),
        ("file:///data/p", "write shardflow://file/data/p"),
        ("http://host/p", "http:// is not a store's scheme; write shardflow://<backend>/<path>"),
        ("ShardFlow://s3/bucket", "small letters; write shardflow://s3/bucket"),
        ("shardflow://s3", "names no bucket"),
        ("shardflow://s3//", "names no bucket"),
        ("shardflow://az/", "names no container"),
        ("shardflow://memory", "names no name"),
        ("shardflow://file/data/../etc", "has a '..' in it"),
        ("shardflow://s3/bucket/../other", "has a '..' in it"),
        ("shardflow://s3/bucket/a\nb", "control characters"),
        ("", "empty"),
        ("  ", "empty"),
    ],
)
def test_refuses_every_other_form_and_shows_the_right_one(text: str, told: str) -> None:
    with pytest.raises(WrongURL, match=told):
        StoreURL.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "shardflow://KEY:SECRET@s3/bucket",
        "s3://KEY:SECRET@bucket",
        "shardflow://s3/KEY:SECRET@bucket/p",
        "shardflow:///KEY:SECRET@bucket/p",
        "shardflow:s3://KEY:SECRET@bucket/p",
        "shardflow:KEY:SECRET@bucket/p",
        "shardflow://KEY:SEC/SECRET@s3/bucket",
        "shardflow://s3/KEY:SECRET/WITH/SLASHES@bucket/p",
        "s3://KEY:SECRET/WITH/SLASHES@bucket/p",
        "git+https://KEY:SECRET/WITH/SLASHES@host/p",
        "s3://KEY:SECRET@bucket/p\n",
    ],
)
def test_credentials_are_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(WrongURL, match="no credentials") as raised:
        StoreURL.parse(text)
    assert "SECRET" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("shardflow://file/data/me@home/store", "/data/me@home/store"),
        ("shardflow://file/a:b@c", "/a:b@c"),
        ("shardflow://s3/bucket/me@home/x:y", "bucket/me@home/x:y"),
    ],
)
def test_a_name_inside_may_have_what_credentials_have(text: str, path: str) -> None:
    assert StoreURL.parse(text).path == path


def test_a_local_path_stands_for_where_it_leads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert StoreURL.parse("link/store") == StoreURL("file", f"{tmp_path.resolve()}/real/store")
    assert StoreURL.parse("link/../store%20?") == StoreURL("file", f"{tmp_path.resolve()}/store%20?")
    assert str(StoreURL.parse(".")) == f"shardflow://file{tmp_path.resolve()}"


def test_a_link_that_leads_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(WrongURL, match="leads nowhere"):
        StoreURL.parse(str(tmp_path / "circle/store"))


def test_knows_its_parts() -> None:
    url = StoreURL.parse("shardflow://s3/bucket/a/b")
    assert (url.bucket, url.prefix, url.name) == ("bucket", "a/b", "b")
    local = StoreURL.parse("shardflow://file/data/b")
    assert (local.bucket, local.prefix, local.name) == ("", "/data/b", "b")


def test_goes_up_to_the_bucket_and_no_further() -> None:
    url: StoreURL | None = StoreURL.parse("shardflow://s3/bucket/a/b")
    seen = []
    while url:
        seen.append(url.path)
        url = url.parent
    assert seen == ["bucket/a/b", "bucket/a", "bucket"]


def test_goes_up_to_the_root_of_the_file_system() -> None:
    url: StoreURL | None = StoreURL.parse("shardflow://file/a/b")
    seen = []
    while url:
        seen.append(url.path)
        url = url.parent
    assert seen == ["/a/b", "/a", "/"]


def test_joins_below_only() -> None:
    root = StoreURL.parse("shardflow://file/")
    assert str(root.joined("a/b")) == "shardflow://file/a/b"
    assert root.joined("") == root
    with pytest.raises(WrongURL, match=r"has a '\.\.'"):
        root.joined("a/../../b")


def test_a_url_elsewhere_is_not_relative() -> None:
    url = StoreURL.parse("shardflow://s3/bucket/ab")
    for other in ("shardflow://s3/bucket/a", "shardflow://gs/bucket", "shardflow://s3/bucket/ab/c"):
        with pytest.raises(WrongURL, match="does not lie in"):
            url.relative_to(StoreURL.parse(other))


@given(st.sampled_from(["file", "s3", "gs", "az", "memory"]), segment, below)
def test_text_and_url_are_two_faces_of_one_thing(backend: str, first: str, rest: list[str]) -> None:
    text = "/".join([f"shardflow://{backend}", first, *rest])
    url = StoreURL.parse(text)
    assert str(url) == text
    assert StoreURL.parse(str(url)) == url


@given(st.sampled_from(["file", "s3", "memory"]), segment, below, below)
def test_joining_and_relative_undo_each_other(backend: str, first: str, above: list[str], rest: list[str]) -> None:
    root = StoreURL.parse("/".join([f"shardflow://{backend}", first, *above]))
    inner = root.joined("/".join(rest))
    assert inner.relative_to(root) == "/".join(rest)
    for _ in rest:
        assert inner.parent
        inner = inner.parent
    assert inner == root


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_refused_in_one_line(text: str) -> None:
    try:
        url = StoreURL.parse(f"shardflow://{text}")
    except WrongURL as error:
        lines = str(error).splitlines()
    else:
        lines = str(url).splitlines()
        assert StoreURL.parse(str(url)) == url
    assert len(lines) == 1
