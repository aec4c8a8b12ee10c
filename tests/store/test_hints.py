"""Hints lead from a file to stored files like it; what is wrong with them costs savings, never an error."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from typing_extensions import Buffer

from shardflow.dtype import DType
from shardflow.layout import Layout, Segment
from shardflow.store import hints
from shardflow.store.gear import Gear
from shardflow.store.hints import (
    HINTS,
    MIN_HINTED_BYTES,
    NEWEST,
    SLOTS,
    Hint,
    Similar,
    features_of,
    hint_objects,
    look_up,
    read_hint,
)
from shardflow.store.manifest import Manifest
from shardflow.transport import Transport
from shardflow.transport.keys import check_key
from store.samples import in_memory, named, noise

GEAR = Gear(2048, 8192, 32768)
CONTENT = noise(3 << 20)


PLAIN = Layout("plain", (), None)


def features(content: bytes, layout: Layout = PLAIN) -> tuple[str, ...]:
    return features_of(lambda start, length: content[start : start + length], len(content), GEAR, layout)


def manifest_with(*features: str, content: bytes = b"content") -> Manifest:
    return Manifest(len(content), named(content), features=features)


def hinted(place: Transport, path: str, *features: str, age: float = 0.0) -> None:
    for key, data in hint_objects(path, manifest_with(*features)):
        place.write(key, data)


@pytest.fixture
def place() -> Transport:
    return in_memory()


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "WINDOW_BYTES", 1 << 20)
    monkeypatch.setattr(hints, "TENSORS_WINDOW_BYTES", 1 << 20)


def model(names: str = "ab", rows: int = 3, dtype: DType = DType.F32, fingerprint: int = 0) -> Layout:
    """Tensors of one shape after another."""
    size = 4 * rows * dtype.width
    tensors = [Segment(n * size, size, dtype, name, (rows, 4)) for n, name in enumerate(names)]
    return Layout("safetensors", tuple(tensors), bytes([fingerprint] * 32))


def test_a_small_file_has_no_features() -> None:
    """A directory of a hundred thousand of them must not make a million objects."""
    assert features(CONTENT[: MIN_HINTED_BYTES - 1]) == ()
    assert features(CONTENT[: MIN_HINTED_BYTES - 1], model()) == ()
    assert len(features(CONTENT[:MIN_HINTED_BYTES])) == 1


def test_a_larger_file_has_one_feature_a_window_and_three_for_its_tensors() -> None:
    found = features(CONTENT, model(fingerprint=7))
    assert found[0] == "t-" + "07" * 16
    assert [feature[0] for feature in found] == list("tnsccc")
    assert {len(feature) for feature in found} == {34}


def test_less_is_cut_of_a_file_that_its_tensors_make_findable(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a model of a few mebibytes would be cut for it, which takes as long as to store it."""
    monkeypatch.setattr(hints, "TENSORS_WINDOW_BYTES", 100_000)
    cut = []
    cuts = Gear.cuts
    monkeypatch.setattr(Gear, "cuts", lambda gear, data, *a, **k: cut.append(len(data)) or cuts(gear, data, *a, **k))
    features(CONTENT, model())
    assert cut == [100_000] * 3
    features(CONTENT)
    assert cut[3:] == [1 << 20] * 3


def test_a_model_that_was_cast_or_grew_shares_its_names_and_one_renamed_its_shapes() -> None:
    _, names, shapes, *_ = features(CONTENT, model())
    assert features(CONTENT, model(dtype=DType.BF16))[1:3] == (names, shapes)
    assert features(CONTENT, model(rows=4))[1] == names != features(CONTENT, model("ac"))[1]
    assert features(CONTENT, model("xy"))[2] == shapes != features(CONTENT, model(rows=4))[2]
    assert features(CONTENT, model("ba"))[1:3] == (names, shapes), "wherever they lie in the file"


def test_the_same_content_has_the_same_features() -> None:
    assert features(CONTENT) == features(bytes(bytearray(CONTENT)))


def test_a_file_of_one_repeated_chunk_has_one_feature() -> None:
    assert len(features(bytes(4 << 20))) == 1


@pytest.mark.parametrize("change", ["insert at the start", "append", "change one byte in a hundred thousand"])
def test_a_changed_file_still_shares_features(change: str) -> None:
    changed = bytearray(CONTENT)
    if change == "insert at the start":
        changed[:0] = noise(5000, 1)
    elif change == "append":
        changed += noise(50_000, 1)
    else:
        changed[::100_000] = bytes(len(changed[::100_000]))
    assert set(features(bytes(changed))) & set(features(CONTENT))


def test_how_much_is_to_be_cut_is_announced_before_anything_is_cut() -> None:
    class Announced(Gear):
        expected: tuple[int, ...] = ()

        def expect(self, size: int) -> None:
            self.expected += (size,)

        def cuts(self, data: Buffer, final: bool) -> list[int]:
            assert self.expected
            return super().cuts(data, final)

    def expected(size: int, layout: Layout = PLAIN) -> tuple[int, ...]:
        gear = Announced(2048, 8192, 32768)
        features_of(lambda _, length: bytes(length), size, gear, layout)
        return gear.expected

    assert expected(1 << 30) == (3 * hints.WINDOW_BYTES,)
    assert expected(1 << 30, model()) == (3 * hints.TENSORS_WINDOW_BYTES,)
    assert expected(MIN_HINTED_BYTES) == (MIN_HINTED_BYTES,)


def test_the_windows_may_be_looked_at_on_several_threads() -> None:
    with ThreadPoolExecutor(2) as pool:
        found = features_of(lambda at, length: CONTENT[at : at + length], len(CONTENT), GEAR, model(), pool.map)
    assert found == features(CONTENT, model())


def test_files_with_nothing_in_common_share_nothing() -> None:
    assert not set(features(CONTENT)) & set(features(noise(3 << 20, 1)))


def test_a_hint_leads_to_its_file(place: Transport) -> None:
    hinted(place, "models/m", "t-1", "c-2")
    [found] = look_up(place, ["t-1"])
    assert (found.path, found.shared) == ("models/m", 1)


@pytest.mark.parametrize("name", [b"\xff\xfe.bin", b"new\nline", b"caf\xc3\xa9", b"50%"])
def test_a_file_of_any_name_can_be_hinted(place: Transport, name: bytes) -> None:
    path = os.fsdecode(name)
    hinted(place, path, "t-1")
    assert [similar.path for similar in look_up(place, ["t-1"])] == [path]


def test_hints_lie_where_every_backend_takes_them() -> None:
    for key, _ in hint_objects("x" * 200 + os.fsdecode(b"\xff"), manifest_with("t-1", "c-2")):
        check_key(key)
        assert key.startswith(HINTS)


@pytest.mark.parametrize("feature", ["", "../tree/m", "t-../x", "T-1", "t-", "t-1/2", "t-ä", "t-" + "1" * 65])
def test_what_a_hostile_manifest_calls_a_feature_makes_no_object(feature: str) -> None:
    assert [key for key, _ in hint_objects("m", manifest_with(feature, "c-2"))] == [
        next(hint_objects("m", manifest_with("c-2")))[0]
    ]


def test_who_shares_more_comes_first_and_the_newer_of_equals(place: Transport) -> None:
    hinted(place, "old", "t-1")
    hinted(place, "both", "t-1", "c-2")
    time.sleep(0.002)
    hinted(place, "new", "t-1")
    assert [similar.path for similar in look_up(place, ["t-1", "c-2"])] == ["both", "new", "old"]


def test_only_the_newest_hints_of_a_feature_are_read(place: Transport) -> None:
    written = []
    for number in range(40):
        hinted(place, f"m{number}", "t-1")
        written.append(f"m{number}")
        time.sleep(0.001)
    found = [similar.path for similar in look_up(place, ["t-1"])]
    assert len(found) == NEWEST
    assert set(found) <= set(written[-3 * NEWEST :])


def test_a_feature_keeps_no_more_hints_than_it_has_slots(place: Transport) -> None:
    for number in range(5 * SLOTS):
        hinted(place, f"m{number}", "t-1")
    assert SLOTS // 2 < len(list(place.list(f"{HINTS}t-1/"))) <= SLOTS


def test_a_new_version_takes_the_slot_of_the_old_one(place: Transport) -> None:
    for content in (b"old", b"new"):
        for key, data in hint_objects("m", manifest_with("t-1", content=content)):
            place.write(key, data)
    [info] = place.list(HINTS)
    assert read_hint(place, info.key) == Hint("tree/m", named(b"new"))


def test_nothing_is_like_a_file_nobody_hinted_at(place: Transport) -> None:
    assert look_up(place, ["t-1"]) == look_up(place, []) == []


def test_a_file_without_features_makes_no_hints() -> None:
    assert list(hint_objects("m", manifest_with())) == []


GARBAGE = {
    "empty": b"",
    "noise": noise(50),
    "not a map": msgspec.msgpack.encode([1, 2]),
    "no key": msgspec.msgpack.encode({"digest": bytes(32)}),
    "a key that leads outside": msgspec.msgpack.encode({"key": "tree/%2E%2E/x", "digest": bytes(32)}),
    "a key that is none": msgspec.msgpack.encode({"key": "tree/", "digest": bytes(32)}),
    "text that is none": msgspec.msgpack.encode({"key": "tree/m", "digest": bytes(32)}).replace(
        b"tree/m", b"tree/\xff"
    ),
    "nested without end": b"\x91" * 100_000,
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_an_unreadable_hint_is_passed_over(place: Transport, kind: str) -> None:
    hinted(place, "good", "t-1")
    for slot in range(3):
        place.write(f"{HINTS}t-1/x{slot}", GARBAGE[kind])
    assert [similar.path for similar in look_up(place, ["t-1"])] == ["good"]


def test_a_hint_that_vanishes_is_passed_over(place: Transport) -> None:
    assert read_hint(place, f"{HINTS}t-1/00") is None


def test_additions_of_later_versions_are_passed_over(place: Transport) -> None:
    place.write(f"{HINTS}t-1/00", msgspec.msgpack.encode({"key": "tree/m", "digest": bytes(32), "score": 3}))
    [found] = look_up(place, ["t-1"])
    assert isinstance(found, Similar)
    assert found.path == "m"
