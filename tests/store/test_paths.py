"""Any name a file can have gets one key, a key leads back to one name, and nothing else passes for either."""

from __future__ import annotations

import os

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from shardflow.store.errors import BadPath
from shardflow.store.paths import (
    MAX_PATH_BYTES,
    MAX_SEGMENT_BYTES,
    TREE,
    is_marker,
    key_of,
    marker_of,
    normal,
    path_of,
    prefix_of,
)
from shardflow.transport.keys import check_key
from store.samples import in_memory


def _possible(name: bytes) -> bool:
    return name not in {b".", b".."} and not {0, ord("/")} & set(name)


unix_names = st.one_of(
    st.binary(min_size=1, max_size=40).filter(_possible).map(os.fsdecode),
    st.text("ab.%~-_ é漢\n\\:?#*", min_size=1, max_size=20).filter(lambda name: name not in {".", ".."}),
)
unix_paths = st.lists(unix_names, min_size=1, max_size=5).map("/".join)


@given(unix_paths)
def test_any_unix_path_round_trips_through_its_key(path: str) -> None:
    assert path_of(key_of(path)) == path
    assert normal(path) == path


@given(unix_paths)
def test_a_key_is_one_that_every_backend_takes(path: str) -> None:
    check_key(key_of(path))
    check_key(marker_of(path))


@given(unix_paths, unix_paths)
def test_two_paths_never_share_a_key(one: str, other: str) -> None:
    assume(one != other)
    assert key_of(one) != key_of(other)
    assert not is_marker(key_of(one))


@given(unix_paths, unix_names)
def test_what_is_in_a_directory_has_its_prefix_and_what_is_beside_it_has_not(path: str, name: str) -> None:
    assert key_of(f"{path}/{name}").startswith(prefix_of(path))
    assert not key_of(f"{path}{name}").startswith(prefix_of(path))


@given(st.text(max_size=30))
@settings(max_examples=300)
def test_any_text_is_a_path_or_refused_as_one(text: str) -> None:
    try:
        path = normal(text)
    except BadPath:
        return
    assert normal(path) == path
    if path:
        assert path_of(key_of(text)) == path


@given(st.text("abAF0159%2ef./\0é", max_size=20).map(TREE.__add__))
@settings(max_examples=500)
def test_a_key_that_leads_to_a_path_is_the_key_of_that_path(key: str) -> None:
    try:
        path = path_of(key)
    except BadPath:
        return
    assert key in {key_of(path) if path else TREE, marker_of(path)} or key == TREE + "/%dir"


@pytest.mark.parametrize(
    "key",
    [
        "tree/../x",
        "tree/./x",
        "tree/a/..",
        "tree//x",
        "tree/x/",
        "tree/a%2Fb",
        "tree/%2E%2E/x",
        "tree/%2E%2E%2Fx",
        "tree/%2e%2e/x",
        "tree/%2e",
        "tree/%c3%a9",
        "tree/%41",
        "tree/%",
        "tree/%4",
        "tree/%G0",
        "tree/%25%",
        "tree/%00",
        "tree/a%00b",
        "tree/é",
        "tree/a\x00b",
        "tree/%dir/x",
        "tree/%dirx",
        "tree/" + "x" * (MAX_SEGMENT_BYTES + 1),
        "tree/" + "/".join(["x" * 99] * 10),
    ],
)
def test_a_key_that_no_store_writes_is_refused(key: str) -> None:
    with pytest.raises(BadPath, match=r"remove the foreign object|use a shorter|name it without|rename"):
        path_of(key)


@pytest.mark.parametrize("path", ["..", "../x", "a/../b", "a/./b", "a//b", "./a", "a\0b", "\ud800", "a/b\udfffc"])
def test_a_path_that_could_lead_elsewhere_or_cannot_be_a_name_is_refused(path: str) -> None:
    for use in (normal, key_of, prefix_of, marker_of):
        with pytest.raises(BadPath):
            use(path)


@pytest.mark.parametrize("path", ["", ".", "/", "//"])
def test_the_root_has_one_spelling_and_is_no_file(path: str) -> None:
    assert normal(path) == ""
    assert prefix_of(path) == TREE
    assert path_of(prefix_of(path)) == ""
    with pytest.raises(BadPath, match="is a directory"):
        key_of(path)


def test_slashes_around_a_path_say_nothing() -> None:
    assert normal("/a/b/") == normal("a/b") == "a/b"


def test_bytes_that_make_a_character_together_are_that_character() -> None:
    assert normal("\udcc3\udca9") == "é"
    assert key_of("\udcc3\udca9") == key_of("é") == "tree/%C3%A9"


def test_the_longest_path_still_makes_keys_that_every_backend_takes() -> None:
    longest = "/".join(["x" * 99] * 8) + "/" + "y" * (MAX_PATH_BYTES - 800)
    check_key(key_of(longest))
    check_key(marker_of(longest))
    with pytest.raises(BadPath, match=f"over the {MAX_PATH_BYTES} that every backend takes; use a shorter path"):
        key_of(longest + "y")


def test_a_name_is_measured_as_it_is_stored() -> None:
    assert key_of("x" * MAX_SEGMENT_BYTES)
    assert key_of("é" * (MAX_SEGMENT_BYTES // 6))
    for name in ("x" * (MAX_SEGMENT_BYTES + 1), "é" * (MAX_SEGMENT_BYTES // 6 + 1)):
        with pytest.raises(BadPath, match="use a shorter name"):
            key_of(name)


def test_an_empty_directory_is_marked_below_its_name() -> None:
    assert marker_of("a/b") == "tree/a/b/%dir"
    assert is_marker("tree/a/b/%dir")
    assert path_of("tree/a/b/%dir") == "a/b"
    assert not is_marker(key_of("a/%dir"))
    assert path_of(key_of("a/%dir")) == "a/%dir"


@given(st.sets(unix_paths, min_size=1, max_size=8))
@settings(max_examples=50)
def test_every_name_comes_back_from_a_listing(paths: set[str]) -> None:
    place = in_memory()
    for path in paths:
        place.write(key_of(path), b"")
    assert {path_of(info.key) for info in place.list(TREE)} == paths
