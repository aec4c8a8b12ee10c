"""A URL leads to the nearest store at or above it; a new store is made only where none is."""

from __future__ import annotations

from pathlib import Path

import pytest

from shardflow.store import location
from shardflow.store.config import CONFIG_KEY, Settings
from shardflow.store.errors import ManifestDamaged, StoreExists, StoreMissing
from shardflow.store.location import found_store, made_store, read_config
from shardflow.transport import StoreURL, connect


@pytest.fixture
def url(store_url: str) -> StoreURL:
    return StoreURL.parse(store_url)


def test_a_store_is_found_from_any_depth(url: StoreURL) -> None:
    _, made = made_store(url, Settings())
    for path in ("", "model", "deep/below/it/file.bin", "name with spaces/50%/ä"):
        transport, config, relative = found_store(url.joined(path) if path else url)
        assert (transport.url, config, relative) == (url, made, path)


def test_however_deep_a_path_it_is_looked_for_through_the_same_clients(
    url: StoreURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[StoreURL] = []
    monkeypatch.setattr(location, "connect", lambda url, options: made.append(url) or connect(url, options))
    made_store(url, Settings())
    deep = url.joined("a/b/c/d")
    transport, _, _ = found_store(deep)
    assert made == [url, deep]
    transport.write("some", b"data")
    assert connect(url).read("some") == b"data"


def test_the_nearest_store_is_the_one(tmp_path: Path) -> None:
    """Someone moved a store into another; what is asked for is in the inner one."""
    outer, inner = (StoreURL.parse(str(tmp_path / name)) for name in ("out", "out/in"))
    made_store(inner, Settings())
    made_store(outer, Settings())
    assert found_store(inner.joined("x"))[0].url == inner
    assert found_store(outer.joined("x"))[0].url == outer


def test_no_store_anywhere_is_told_with_the_remedy(url: StoreURL) -> None:
    wanted = url.joined("a/b")
    with pytest.raises(
        StoreMissing, match=r"there is no store at .*/a/b or above it; make one with 'shardflow init .*/a/b'"
    ):
        found_store(wanted)


def test_a_store_beside_it_does_not_count(tmp_path: Path) -> None:
    made_store(StoreURL.parse(str(tmp_path / "store")), Settings())
    with pytest.raises(StoreMissing):
        found_store(StoreURL.parse(str(tmp_path / "store2/x")))


def test_a_new_store_keeps_its_settings(url: StoreURL) -> None:
    settings = Settings(inline_bytes=7)
    transport, config = made_store(url, settings)
    assert config.settings == settings
    assert read_config(transport) == config
    assert [info.key for info in transport.list()] == [CONFIG_KEY]


def test_a_store_is_not_made_in_or_on_another(url: StoreURL) -> None:
    made_store(url, Settings())
    for place in (url, url.joined("below"), url.joined("far/below")):
        with pytest.raises(StoreExists, match=r"there is a store at .* already; use it, or name another place"):
            made_store(place, Settings())


@pytest.mark.parametrize("left", ["packs/ab/x", "tree/m"])
def test_a_store_is_not_made_over_what_is_left_of_one(url: StoreURL, left: str) -> None:
    connect(url).write(left, b"")
    with pytest.raises(StoreExists, match=r"of a store whose shardflow.json is gone; restore shardflow.json"):
        made_store(url, Settings())


def test_of_two_programs_that_make_a_store_one_succeeds(url: StoreURL, monkeypatch: pytest.MonkeyPatch) -> None:
    real, others = location.new_config, []

    def meanwhile(settings: Settings) -> object:
        if not others:
            others.append(None)
            others[0] = made_store(url, Settings(inline_bytes=1))[1]
        return real(settings)

    monkeypatch.setattr(location, "new_config", meanwhile)
    with pytest.raises(StoreExists, match=r"another program made a store at .* just now; use it"):
        made_store(url, Settings())
    assert found_store(url)[1] == others[0]


def test_a_damaged_configuration_is_told_and_not_passed_over(url: StoreURL) -> None:
    connect(url).write(CONFIG_KEY, b"{")
    for act in (lambda: found_store(url.joined("x")), lambda: made_store(url.joined("x"), Settings())):
        with pytest.raises(ManifestDamaged, match=r"shardflow.json of the store at .* is not valid"):
            act()


def test_a_place_without_a_store_has_no_configuration(url: StoreURL) -> None:
    assert read_config(connect(url)) is None


def test_a_file_on_the_way_up_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreMissing):
        found_store(StoreURL.parse(str(tmp_path / "file/below")))
