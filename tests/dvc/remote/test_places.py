"""Where a path lies: stores are made where the remote begins, told where they are missing, and seldom asked for."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from shardflow.dvc import places
from shardflow.dvc.places import Places, url_of
from shardflow.store import known
from shardflow.store.errors import StoreMissing
from shardflow.store.store import Store
from shardflow.transport import WrongURL


@pytest.fixture
def root(tmp_path: Path) -> str:
    return f"file{tmp_path}/store/remote"


def test_a_first_write_makes_the_store_where_the_remote_begins(
    root: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "dvc.shardflow"):
        store, inside = Places(url_of(root), {}).to_write(f"{root}/files/x")
    assert (str(store.url), inside) == (f"shardflow://{root}", "files/x")
    assert f"made a new store at shardflow://{root}" in caplog.text
    assert (tmp_path / "store" / "remote" / "shardflow.json").exists()


def test_a_store_above_the_remote_is_used(root: str, tmp_path: Path) -> None:
    Store.init(str(tmp_path / "store"))
    assert Places(url_of(root), {}).to_write(f"{root}/x")[1] == "remote/x"


def test_outside_of_the_remote_no_store_is_made(root: str, tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        Places(url_of(root), {}).to_write(f"file{tmp_path}/elsewhere/x")
    with pytest.raises(StoreMissing):
        Places(None, {}).to_write(f"{root}/x")


def test_a_missing_store_is_told_once(root: str, caplog: pytest.LogCaptureFixture) -> None:
    found = Places(url_of(root), {})
    for name in ("x", "y"):
        with pytest.raises(StoreMissing):
            found.to_read(f"{root}/{name}")
    assert caplog.text.count("there is no store at") == 1


def test_whether_the_store_is_there_still_is_asked_now_and_then(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, looks = [100.0], [0]
    look = known.found_still
    monkeypatch.setattr(places, "monotonic", lambda: clock[0])

    def counted(*arguments: object) -> object:
        looks[0] += 1
        return look(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(known, "found_still", counted)
    found = Places(url_of(root), {})
    first, _ = found.to_write(f"{root}/x")
    for _ in range(100):
        found.to_write(f"{root}/x")
    assert looks == [2], "before the store was made, and as it was"
    shutil.rmtree(tmp_path / "store")
    clock[0] += places.SURE_SECONDS
    second, _ = found.to_write(f"{root}/x")
    assert looks == [4]
    assert second.config.id != first.config.id


@pytest.mark.parametrize("path", ["s/a\0b", "s/a\0b/c", "\0s/x"])
def test_a_nul_in_a_path_is_named(root: str, path: str) -> None:
    Store.init(f"shardflow://{root}")
    with pytest.raises(WrongURL, match="has a NUL in it"):
        Places(None, {}).to_read(f"{root}/{path}")


def test_what_names_no_backend_is_refused() -> None:
    with pytest.raises(WrongURL):
        Places(None, {}).to_read("/tmp/x")
