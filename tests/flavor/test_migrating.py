"""Models that lie elsewhere come into a store: oldest first, compared, and not twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import save_file

from flavor.outside import checkpoints, coded_against, fetched, tree, weights
from shardflow import flavor
from shardflow.flavor.migrating import MigrationRefused
from shardflow.flavor.moving import copying
from shardflow.flavor.moving.copying import MigrationProgress
from shardflow.flavor.moving.versions import NothingToMove
from shardflow.store.store import Store


def test_checkpoints_come_in_the_order_of_their_steps_each_as_a_delta_of_the_one_before(
    large: Store, tmp_path: Path
) -> None:
    source = checkpoints(tmp_path / "checkpoints")
    before = tree(source)
    done = flavor.migrate(f"{large.url}/run", source=str(source))
    assert [version.name for version in done.versions] == ["checkpoint-2", "checkpoint-10", "checkpoint-100"]
    assert {version.state for version in done.versions} == {"moved"}
    first, *later = done.versions
    assert first.stored > 0.8 * first.bytes
    assert all(version.stored < 0.8 * version.bytes for version in later)
    files = [f"run/{version.name}/model.safetensors" for version in done.versions]
    assert [coded_against(large, files[n + 1], files[n]) > 20 for n in (0, 1)] == [True, True]
    assert done.stored < 0.9 * done.bytes
    assert fetched(large, "run", tmp_path / "back") == before
    assert tree(source) == before


def test_a_second_run_reads_nothing_again(large: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = checkpoints(tmp_path / "checkpoints")
    first = flavor.migrate(f"{large.url}/run", source=str(source))
    monkeypatch.setattr(copying, "put_sources", lambda *_, **__: pytest.fail("it is put again"))
    again = flavor.migrate(f"{large.url}/run", source=str(source))
    assert {version.state for version in again.versions} == {"was there"}
    assert [version.stored for version in again.versions] == [version.stored for version in first.versions]
    assert again.versions[0].seconds == first.versions[0].seconds


def test_an_original_that_changed_since_is_moved_again(large: Store, tmp_path: Path) -> None:
    source = checkpoints(tmp_path / "checkpoints")
    flavor.migrate(f"{large.url}/run", source=str(source))
    save_file(weights(11), source / "checkpoint-10" / "model.safetensors")
    again = flavor.migrate(f"{large.url}/run", source=str(source))
    assert [version.state for version in again.versions] == ["was there", "moved", "was there"]
    assert fetched(large, "run", tmp_path / "back") == tree(source)


def test_records_may_be_lost_or_wrong(large: Store, tmp_path: Path) -> None:
    source = checkpoints(tmp_path / "checkpoints")
    flavor.migrate(f"{large.url}/run", source=str(source))
    large.rm(".migrated/run/checkpoint-2", recursive=True)
    (tmp_path / "record").write_text('{"source": 5')
    large.put(tmp_path / "record", ".migrated/run/checkpoint-10/record.json")
    large.rm("run/checkpoint-100/config.json")
    packs = {info.key for info in large.transport.list("packs/")}
    again = flavor.migrate(f"{large.url}/run", source=str(source))
    assert {version.state for version in again.versions} == {"moved"}
    assert {info.key for info in large.transport.list("packs/")} == packs
    assert fetched(large, "run", tmp_path / "back") == tree(source)


def test_what_makes_no_sense_is_refused(large: Store, elsewhere: str, tmp_path: Path) -> None:
    with pytest.raises(MigrationRefused, match="one of a model, an experiment and a source"):
        flavor.migrate(str(large.url), model="a", source="b")
    with pytest.raises(MigrationRefused, match="cannot be registered"):
        flavor.migrate(str(large.url), source="b", register_as="a")
    with pytest.raises(NothingToMove, match="no model is registered as nothing"):
        flavor.migrate(str(large.url), model="nothing")
    with pytest.raises(NothingToMove, match="there is no experiment called nothing"):
        flavor.migrate(str(large.url), experiment="nothing")
    with pytest.raises(NothingToMove, match="has no logged models"):
        flavor.migrate(str(large.url), experiment=elsewhere)
    with pytest.raises(MigrationRefused, match="holds the store"):
        flavor.migrate(str(large.url), source=str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(NothingToMove, match="has nothing in it"):
        flavor.migrate(str(large.url), source=str(tmp_path / "empty"))


def test_progress_tells_how_far_it_has_come(large: Store, tmp_path: Path) -> None:
    progress = MigrationProgress()
    flavor.migrate(f"{large.url}/run", source=str(checkpoints(tmp_path / "checkpoints")), progress=progress)
    assert (progress.versions_done, progress.versions_total) == (3, 3)
    assert progress.doing == "checkpoint-100"
    assert progress.bytes_done == progress.bytes_total > 2_000_000
