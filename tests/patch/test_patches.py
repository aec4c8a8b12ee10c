"""A patch leads from one version to the next, and to nothing else: not from another, nor when a byte of it is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delta import models
from delta.models import as_file, merged, model, trained
from shardflow.dtype import DType
from shardflow.errors import CorruptData, ShardflowError
from shardflow.patch import apply, applying, check_chain, create, creating, describe
from shardflow.patch.format import (
    COPY,
    FOOT,
    MAGIC,
    Directory,
    NewFile,
    OldFile,
    PatchDamaged,
    Row,
    WrongSource,
    read_directory,
    write_directory,
)
from shardflow.store.errors import PathTaken, SourceUnusable, TargetUnusable
from store.samples import flipped, named, noise

OLD = as_file(model())
NEXT = {
    "trained": as_file(trained(model(), 1e-7)),
    "cast": as_file(model(), DType.BF16),
    "renamed": as_file({f"module.{name}": values for name, values in trained(model(), 1e-7).items()}),
    "grown": as_file(model() | {"head.weight": np.concatenate([model()["head.weight"], np.ones((9, 128), "<f4")])}),
    "merged": as_file(merged(model(), models.adapter(strength=3))),
    "same": OLD,
    "unrelated": as_file(model(3)),
    "plain": noise(200_000),
    "empty": b"",
}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "old").write_bytes(OLD)
    return tmp_path


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if "shardflow" in path.name]


@pytest.mark.parametrize("kind", NEXT)
def test_a_patch_leads_to_the_next_version(here: Path, kind: str) -> None:
    (here / "new").write_bytes(NEXT[kind])
    made = create(here / "old", here / "new", here / "patch")
    assert made.patch_bytes == (here / "patch").stat().st_size
    apply(here / "old", here / "patch", here / "out")
    assert (here / "out").read_bytes() == NEXT[kind]
    assert (here / "old").read_bytes() == OLD
    assert not leftovers(here)


@pytest.mark.parametrize(
    ("kind", "most"), [("trained", 0.3), ("cast", 0.02), ("renamed", 0.3), ("grown", 0.01), ("same", 0.001)]
)
def test_a_patch_holds_little_of_what_the_older_version_has(here: Path, kind: str, most: float) -> None:
    (here / "new").write_bytes(NEXT[kind])
    assert create(here / "old", here / "new", here / "patch").patch_bytes < most * len(NEXT[kind])


def test_a_plain_file_is_copied_around_what_was_inserted(here: Path) -> None:
    before = noise(3_000_000)
    (here / "a").write_bytes(before)
    (here / "b").write_bytes(before[:1_000_000] + b"inserted" + before[1_000_000:])
    made = create(here / "a", here / "b", here / "patch")
    assert made.patch_bytes < 600_000
    apply(here / "a", here / "patch", here / "out")
    assert (here / "out").read_bytes() == (here / "b").read_bytes()


def test_an_adapter_that_is_given_serves_a_patch_too(here: Path) -> None:
    (here / "new").write_bytes(NEXT["merged"])
    directory = models.save_adapter(here / "adapter", models.adapter(strength=3))
    create(here / "old", here / "new", here / "patch", directory)
    apply(here / "old", here / "patch", here / "out")
    assert (here / "out").read_bytes() == NEXT["merged"]


def folder(place: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = place / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def content(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_directories_are_patched_whole(here: Path) -> None:
    old = folder(here / "a", config=b"one", one__model=OLD, gone=noise(5000))
    new = folder(here / "b", config=b"two", two__model=NEXT["trained"], empty=b"", added=noise(5000, 2))
    made = create(old, new, here / "patch")
    assert made.on_bases_bytes > 0.8 * len(OLD)
    apply(old, here / "patch", here / "out")
    assert content(here / "out") == content(new)


def test_patches_of_a_chain_are_applied_in_one_go(here: Path) -> None:
    versions = [OLD, NEXT["trained"], NEXT["cast"], NEXT["merged"]]
    for n, file in enumerate(versions):
        (here / f"v{n}").write_bytes(file)
    patches = [here / f"p{n}" for n in range(3)]
    for n, patch in enumerate(patches):
        create(here / f"v{n}", here / f"v{n + 1}", patch)
    apply(here / "v0", patches, here / "out")
    assert (here / "out").read_bytes() == versions[-1]
    with pytest.raises(WrongSource, match="does not begin with what"):
        check_chain([describe(patches[0]), describe(patches[2])])


@pytest.mark.parametrize("other", [OLD[:-1], flipped(OLD, 8_000_000), b"", NEXT["trained"]])
def test_another_source_is_refused_before_anything_is_written(here: Path, other: bytes) -> None:
    (here / "new").write_bytes(NEXT["trained"])
    create(here / "old", here / "new", here / "patch")
    (here / "other").write_bytes(other)
    (here / "out").write_bytes(b"as it was")
    with pytest.raises(WrongSource, match=r"other is not what .*patch was made for"):
        apply(here / "other", here / "patch", here / "out")
    assert (here / "out").read_bytes() == b"as it was"
    assert not leftovers(here)


def test_a_file_that_a_directory_lacks_is_named(here: Path) -> None:
    old, new = folder(here / "a", x=b"1" * 100, y=b"2"), folder(here / "b", x=b"3")
    create(old, new, here / "patch")
    (old / "y").unlink()
    with pytest.raises(WrongSource, match="a/y is not there"):
        apply(old, here / "patch", here / "out")


def test_a_target_that_is_taken_is_left_alone(here: Path) -> None:
    old, new = folder(here / "a", x=b"1"), folder(here / "b", x=b"2")
    create(old, new, here / "patch")
    with pytest.raises(PathTaken, match="exists"):
        apply(old, here / "patch", folder(here / "c", z=b"3"))
    create(here / "old", here / "old", here / "one")
    with pytest.raises(PathTaken, match="is a directory"):
        apply(here / "old", here / "one", here / "c")
    assert content(here / "c") == {"z": b"3"}


def test_a_patch_never_replaces_what_it_is_made_of(here: Path) -> None:
    (here / "new").write_bytes(NEXT["trained"])
    for place in ("old", "new"):
        with pytest.raises(PathTaken, match="is what the patch is made of"):
            create(here / "old", here / "new", here / place)
    assert (here / "old").read_bytes() == OLD
    assert (here / "new").read_bytes() == NEXT["trained"]


def test_every_cut_of_a_patch_is_refused(here: Path) -> None:
    (here / "new").write_bytes(NEXT["plain"][:3000])
    create(here / "old", here / "new", here / "patch")
    whole = (here / "patch").read_bytes()
    for length in range(0, len(whole), 97):
        (here / "cut").write_bytes(whole[:length])
        with pytest.raises(PatchDamaged, match="cut is no sound patch"):
            apply(here / "old", here / "cut", here / "out")
    assert not (here / "out").exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_flipped_bit_is_refused_or_changes_nothing(here: Path, data: st.DataObject) -> None:
    patch = here / "patch"
    if not patch.exists():
        (here / "new").write_bytes(NEXT["trained"])
        create(here / "old", here / "new", patch)
    whole = patch.read_bytes()
    (here / "flipped").write_bytes(flipped(whole, data.draw(st.integers(0, 8 * len(whole) - 1))))
    try:
        apply(here / "old", here / "flipped", here / "out")
    except ShardflowError:
        assert not leftovers(here)
    else:
        assert (here / "out").read_bytes() == NEXT["trained"]


def written(place: Path, directory: Directory, payload: bytes = b"") -> Path:
    with place.open("wb") as file:
        file.write(MAGIC + payload)
        write_directory(file, directory)
    return place


OLD_FILE = OldFile("", 100, named(noise(100)))


def lying(**changes: object) -> Directory:
    """A patch that copies a file of 100 bytes, but for some lie."""
    rows = changes.pop("rows", (Row(named(noise(100)), 100, COPY, 0, 0, 0),))
    new = NewFile(**({"path": "", "size": 100, "digest": named(noise(100)), "rows": (0,)} | changes.pop("new", {})))  # type: ignore[operator]
    return Directory(**({"old": (OLD_FILE,), "new": (new,), "rows": rows, "single": True} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lie", "complaint"),
    [
        ({"rows": (Row(bytes(32), 2**40, COPY, 0, 0, 0),)}, "chunk 0 is malformed"),
        ({"rows": (Row(b"short", 100, COPY, 0, 0, 0),)}, "chunk 0 is malformed"),
        ({"rows": (Row(bytes(32), 100, COPY, 1, 0, 0),)}, "a run lies outside"),
        ({"rows": (Row(bytes(32), 100, COPY, -1, 0, 0),)}, "a run lies in no file"),
        ({"rows": (Row(bytes(32), 100, COPY, 0, 0, 7),)}, "a run lies in no file"),
        ({"rows": (Row(bytes(32), 100, 0, 0, 100),)}, "lies outside of the payload"),
        ({"rows": (Row(bytes(32), 100, 0, 8, 2**62),)}, "lies outside of the payload"),
        ({"rows": (Row(bytes(32), 100, 16, 8, 0, bases=((-1, 0, 0),)),)}, "does not come before it"),
        ({"rows": (Row(bytes(32), 100, 16, 8, 0, bases=((0, 0, 2**40),)),)}, "a run lies outside"),
        ({"new": {"rows": (1,)}}, "names a chunk that is not there"),
        ({"new": {"rows": (0, 0)}}, "do not make its size"),
        ({"new": {"path": "x"}}, "a single file has no name"),
        ({"single": False, "new": {"path": "../x"}}, "path"),
        ({"single": False, "new": {"path": "/x"}}, "path"),
        ({"single": False, "new": {"path": ""}}, "no path below"),
        ({"new": {"digest": bytes(32)}}, "does not lead to the file that it promises"),
        ({"rows": (Row(bytes(32), 100, COPY, 0, 0, 0),)}, "chunk 0 is not where it says"),
    ],
)
def test_a_patch_that_lies_is_refused_and_leaves_nothing(here: Path, lie: dict[str, object], complaint: str) -> None:
    (here / "old").write_bytes(noise(100))
    patch = written(here / "lying", lying(**lie))
    with pytest.raises(CorruptData, match=complaint):
        apply(here / "old", patch, here / "out")
    assert not (here / "out").exists()
    assert not leftovers(here)


def test_the_honest_patch_that_the_lies_were_made_of_is_applied(here: Path) -> None:
    (here / "old").write_bytes(noise(100))
    apply(here / "old", written(here / "honest", lying()), here / "out")
    assert (here / "out").read_bytes() == noise(100)


@pytest.mark.parametrize("foot", [FOOT.pack(2**63, bytes(32)), FOOT.pack(0, bytes(32)), FOOT.pack(3, bytes(32))])
def test_a_made_up_end_is_refused_before_memory_is_taken(here: Path, foot: bytes) -> None:
    (here / "patch").write_bytes(MAGIC + b"abc" + foot)
    with (here / "patch").open("rb") as file, pytest.raises(PatchDamaged):
        read_directory(file, "patch")


def test_a_patch_of_the_future_is_told_from_damage(here: Path) -> None:
    (here / "patch").write_bytes(MAGIC[:7] + b"\x09" + bytes(200))
    with pytest.raises(ShardflowError, match="is a patch of a newer format; upgrade"):
        describe(here / "patch")


def test_a_patch_that_is_not_there_is_named(here: Path) -> None:
    with pytest.raises(SourceUnusable, match="nowhere cannot be read"):
        apply(here / "old", here / "nowhere", here / "out")
    with pytest.raises(SourceUnusable, match="nowhere does not exist"):
        create(here / "old", here / "nowhere", here / "patch")


class Died(BaseException):
    """The end of the process, as far as one process can show it."""


@pytest.mark.parametrize("moment", range(4))
def test_a_killed_create_leaves_no_half_patch(here: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    (here / "new").write_bytes(NEXT["trained"])
    plain, calls = creating._Patch._row, []

    def mortal(self: creating._Patch, row: Row) -> int:
        calls.append(1)
        if len(calls) > moment:
            raise Died
        return plain(self, row)

    monkeypatch.setattr(creating._Patch, "_row", mortal)
    with pytest.raises(Died):
        create(here / "old", here / "new", here / "patch")
    assert not (here / "patch").exists()


@pytest.mark.parametrize("moment", range(0, 8, 2))
def test_a_killed_apply_leaves_the_target_as_it_was(here: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    (here / "new").write_bytes(NEXT["trained"])
    create(here / "old", here / "new", here / "patch")
    (here / "out").write_bytes(b"as it was")
    plain: Callable[..., memoryview] = applying._Making._plain
    calls: list[int] = []

    def mortal(self: applying._Making, number: int) -> memoryview:
        calls.append(1)
        if len(calls) > moment:
            raise Died
        return plain(self, number)

    monkeypatch.setattr(applying._Making, "_plain", mortal)
    with pytest.raises(Died):
        apply(here / "old", here / "patch", here / "out")
    assert (here / "out").read_bytes() == b"as it was"


def test_a_full_disk_is_told_and_leaves_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    (here / "new").write_bytes(NEXT["trained"])
    create(here / "old", here / "new", here / "patch")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(applying.os, "fsync", full)
    with pytest.raises(TargetUnusable, match="no space left"):
        apply(here / "old", here / "patch", here / "out")
    assert not (here / "out").exists()
    assert not leftovers(here)


def test_the_directory_is_what_the_documentation_says(here: Path) -> None:
    """docs/format-patch.md names these fields."""
    (here / "new").write_bytes(NEXT["same"])
    create(here / "old", here / "new", here / "patch")
    found = msgspec.to_builtins(describe(here / "patch").directory)
    assert set(found) == {"old", "new", "rows", "single"}
    assert set(found["old"][0]) == {"path", "size", "digest"}
    assert set(found["new"][0]) == {"path", "size", "digest", "rows"}
