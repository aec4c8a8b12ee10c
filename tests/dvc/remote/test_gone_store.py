"""A store that is gone is never taken for a place where nothing was pushed yet: commands fail, and name it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvc_support.commands import Project, project, remote_options
from dvc_support.places import Place
from services.service import Service
from shardflow.store.store import Store
from shardflow.transport import StoreURL, connect

pytestmark = pytest.mark.slow

COMMANDS = (["push"], ["fetch"], ["pull"], ["status", "-c"], ["gc", "-w", "-c", "-f"])
MISSING_BUCKET = "bucket-that-nobody-made"


@pytest.fixture
def pushed(place: Place, tmp_path: Path, noise: Callable[[int], bytes]) -> Project:
    """A project that has pushed a file and a directory, and has one more to push."""
    here = place.project(tmp_path / "here")
    (here.root / "data").mkdir()
    (here.root / "data" / "one.txt").write_text("one")
    (here.root / "weights.bin").write_bytes(noise(200_000))
    here.must("add", "weights.bin", "data")
    here.must("push")
    here.commit()
    (here.root / "more.txt").write_text("more")
    here.must("add", "more.txt")
    return here


def empty(place: Place) -> None:
    """As when someone empties the bucket, or a disk is not mounted."""
    transport = place.store.transport
    for key in [info.key for info in transport.list("")]:
        transport.delete(key)
    if "://file/" in place.url:
        shutil.rmtree(place.url.removeprefix("shardflow://file"))


def test_every_command_names_it_and_makes_no_other_until_its_user_does(
    pushed: Project, place: Place, tmp_path: Path
) -> None:
    empty(place)
    cached = sorted((pushed.root / ".dvc" / "cache").rglob("*"))
    for command in COMMANDS:
        done = pushed.dvc(*command)
        assert done.code != 0, command
        assert done.err.count(f"the store at {place.url} is gone") == 1
        assert f"shardflow init {place.url}" in done.err
    assert list(connect(StoreURL.parse(place.url), place.options).list("")) == []
    assert sorted((pushed.root / ".dvc" / "cache").rglob("*")) == cached

    Store.init(place.url, options=place.options)
    told = pushed.must("push")
    assert f"the store at {place.url} is not the one that this project has used there until now" in told
    assert "4 files pushed" in told
    there = pushed.clone(tmp_path / "there")
    there.must("pull")
    assert (there.root / "data" / "one.txt").read_text() == "one"
    assert "is not the one" not in pushed.must("status", "-c")


def test_who_only_fetched_from_it_is_told_as_well(here: Project, disk: Place, tmp_path: Path) -> None:
    (here.root / "a.txt").write_text("a")
    here.must("add", "a.txt")
    here.must("push")
    here.commit()
    there = here.clone(tmp_path / "there")
    there.must("fetch")
    empty(disk)
    done = there.dvc("push")
    assert done.code != 0
    assert f"the store at {disk.url} is gone" in done.all


def test_another_place_of_the_same_project_is_new_and_is_told_to_be_new(here: Project, tmp_path: Path) -> None:
    (here.root / "a.txt").write_text("a")
    here.must("add", "a.txt")
    here.must("push")
    other = f"shardflow://file{tmp_path}/other"
    here.must("remote", "modify", "store", "url", other)
    assert f"made a new store at {other}" in here.must("push")
    assert "made a new store" not in here.must("push")


@pytest.mark.service("ceph")
def test_a_bucket_that_does_not_exist_is_named_by_every_command(ceph: Service, tmp_path: Path) -> None:
    here = project(tmp_path / "here", ceph.url_for(MISSING_BUCKET, "store"), remote_options(ceph.options))
    (here.root / "a.txt").write_text("a")
    here.must("add", "a.txt")
    for command in COMMANDS:
        done = here.dvc(*command)
        assert done.code != 0, command
        assert f"in shardflow://s3/{MISSING_BUCKET}/store" in done.err
        assert done.err.count("there is no such bucket; make it first, or correct the URL") == 1
        assert "Debug source" not in done.all
