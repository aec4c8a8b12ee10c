"""What is written below a directory stays below it, whatever links lie there."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardflow.store.errors import BadPath, TargetUnusable
from shardflow.store.placing import PartialFile, TargetDirectory
from store.samples import in_memory, stored


def test_places_lie_below_the_target(tmp_path: Path) -> None:
    inside = TargetDirectory(tmp_path / "t")
    assert inside.file("a/b") == tmp_path / "t/a/b"
    for directory in ("", "a", "b/c/d"):
        inside.directory(directory)
        assert (tmp_path / "t" / directory).is_dir()


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "t/real").mkdir(parents=True)
    (tmp_path / "t/link").symlink_to("real")
    inside = TargetDirectory(tmp_path / "t")
    assert inside.file("link/x") == tmp_path / "t/link/x"
    inside.directory("link/deeper")
    assert (tmp_path / "t/real/deeper").is_dir()


def test_the_target_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "t").symlink_to("real")
    TargetDirectory(tmp_path / "t").directory("a")
    assert (tmp_path / "real/a").is_dir()


@pytest.mark.parametrize("leads_to", ["..", "../beside", "/", "link", "../t-not"])
def test_a_link_that_leads_outside_or_nowhere_is_refused(tmp_path: Path, leads_to: str) -> None:
    """`t-not` begins as `t` does, and `link` leads to itself."""
    (tmp_path / "beside").mkdir()
    (tmp_path / "t-not").mkdir()
    (tmp_path / "t").mkdir()
    (tmp_path / "t/link").symlink_to(leads_to)
    inside = TargetDirectory(tmp_path / "t")
    for use in (
        lambda: PartialFile("m", stored(in_memory(), []), inside.file("link/x")),
        lambda: inside.directory("link"),
        lambda: inside.directory("link/x"),
    ):
        with pytest.raises((BadPath, TargetUnusable)):
            use()
    assert not list((tmp_path / "beside").iterdir())
    assert not list((tmp_path / "t-not").iterdir())


def test_a_file_where_a_directory_goes_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    with pytest.raises(TargetUnusable, match="a cannot be written"):
        TargetDirectory(tmp_path).directory("a")
