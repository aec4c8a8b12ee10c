"""A model can be read before, after and in between while it gets other files, and what was cut short is finished."""

from __future__ import annotations

import json
import time
from pathlib import Path

import mlflow
import pytest
import torch

from faults.crashing import Crash, Fate, mortal
from flavor.divided import equal, names, put_folder, weights
from flavor.models import NET, net
from services.warmed import finish, program
from shardflow import flavor
from shardflow.flavor import owners, resharding
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.index import INDEX_FILE
from shardflow.flavor.moving.claims import WorkUnderWay
from shardflow.flavor.stored_weights import StoredWeights
from shardflow.store.config import Settings
from shardflow.store.store import Store
from shardflow.transport import NoSpace


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (("single", 1), ("balanced", 500_000)),
        (("layers", 700_000), ("balanced", 650_000)),
        (("balanced", 500_000), ("single", 1)),
    ],
    ids=["one-to-many", "names-in-use", "many-to-one"],
)
def test_a_crash_before_any_change_leaves_a_model_that_reads_and_the_next_run_finishes(
    first: tuple[str, int], then: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = weights(4)
    store = Store.init(f"shardflow://memory/{tmp_path.name}", Settings(pack_bytes=1 << 20, chunk_bytes=64 << 10))
    url = put_folder(store, tmp_path / "folder", tensors)
    flavor.reshard(url, *first)
    begun = names(store, "llama")
    changes = 0
    for dies_at in range(1, 200):
        fate = Fate(dies_at=dies_at)
        monkeypatch.setattr(resharding.Store, "find", lambda *_, fate=fate: (mortal(store, fate), "llama"))
        try:
            flavor.reshard(url, *then)
            changes = fate.changes
        except Crash:
            changes = 0
        monkeypatch.undo()
        assert equal(url, tensors), f"after the death at change {dies_at}"
        _downloaded_reads(store, tmp_path / f"after-{dies_at}", tensors)
        flavor.reshard(url, *then)
        assert equal(url, tensors)
        wanted = {shard.file for shard in flavor.reshard(url, *then, dry_run=True).plan.shards}
        assert names(store, "llama") - {INDEX_FILE} == wanted | {"config.json"}
        if changes:
            break
        flavor.reshard(url, *first)
        assert names(store, "llama") == begun
    assert changes > 8


def _downloaded_reads(store: Store, target: Path, tensors: dict[str, torch.Tensor]) -> None:
    """As transformers looks for weights: one file first, then the index."""
    from safetensors.torch import load_file

    store.get("llama", target)
    if (target / "model.safetensors").exists():
        found = load_file(target / "model.safetensors")
    else:
        home = json.loads((target / INDEX_FILE).read_text())["weight_map"]
        found = {name: load_file(target / file)[name] for name, file in home.items()}
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_readers_of_the_old_files_go_on_with_the_new_ones(large: Store, tmp_path: Path) -> None:
    tensors = weights()
    url = put_folder(large, tmp_path / "folder", tensors)
    flavor.reshard(url, "layers", 700_000)
    with StoredWeights(StoreFolder(large, "llama")) as begun, StoredWeights(StoreFolder(large, "llama")) as later:
        first = next(iter(tensors))
        assert torch.equal(begun.read(first), tensors[first])
        flavor.reshard(url, "balanced", 650_000)  # under the same names
        flavor.reshard(url, "attention", 300_000)
        for name, tensor in tensors.items():
            assert torch.equal(begun.read(name), tensor)
        back = later.read_all(later.names())
        assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_readers_of_a_logged_model_accept_the_new_digests(store: Store, experiment: str) -> None:
    info = flavor.log_model(net(), name="net", factory=NET, sharding="layers", max_shard_bytes=120_000)
    home, path = Store.find(f"{mlflow.get_logged_model(info.model_id).artifact_location}/weights")
    with StoredWeights(StoreFolder(home, path)) as begun:
        done = flavor.reshard(info.model_uri, "balanced", 120_000)
        assert {file.name for file in begun.recipe.files} == {shard.file for shard in done.plan.shards}
        back = begun.read_all(begun.names())
    assert all(torch.equal(back[name], tensor) for name, tensor in net().state_dict().items())


def test_a_second_run_at_the_same_time_is_refused(large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights())
    note = {"work": "reshard", "host": "elsewhere", "process": 7, "token": "ab", "started": 1.7e9}
    (tmp_path / "note").write_text(json.dumps(note))
    large.put(tmp_path / "note", f"llama/{resharding.CLAIM_FILE}")
    with pytest.raises(WorkUnderWay, match=r"process 7 of elsewhere .* --take-over"):
        flavor.reshard(url, "layers", 500_000)
    assert flavor.reshard(url, "layers", 500_000, take_over=True).changed
    assert resharding.CLAIM_FILE not in names(large, "llama")


def test_a_run_that_failed_halfway_is_finished_from_another_machine(
    large: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = weights()
    url = put_folder(large, tmp_path / "folder", tensors)

    def full(*_: object) -> None:
        raise NoSpace("no room is left")

    with monkeypatch.context() as broken:
        broken.setattr(resharding, "describe", full)
        with pytest.raises(NoSpace):
            flavor.reshard(url, "layers", 500_000)
    assert resharding.CLAIM_FILE in names(large, "llama")
    assert equal(url, tensors)
    monkeypatch.setattr(owners.platform, "node", lambda: "another")
    done = flavor.reshard(url, "layers", 500_000)
    assert (done.changed, done.removed) == (False, ("model.safetensors",))
    assert resharding.CLAIM_FILE not in names(large, "llama")
    assert equal(url, tensors)


@pytest.mark.parametrize("note", [b"", b"{}", b"\x00\xff", b'{"work": 5}'])
def test_a_note_that_makes_no_sense_stops_nobody(note: bytes, large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights(2))
    (tmp_path / "note").write_bytes(note)
    large.put(tmp_path / "note", f"llama/{resharding.CLAIM_FILE}")
    assert flavor.reshard(url, "layers", 500_000).changed


RESHARD = """
import sys
from shardflow import flavor
flavor.reshard(sys.argv[1], "balanced", 3_000_000)
"""


def test_a_killed_run_is_finished_by_running_it_again(tmp_path: Path) -> None:
    store = Store.init(str(tmp_path.resolve() / "store"), Settings(pack_bytes=1 << 20, chunk_bytes=64 << 10))
    torch.manual_seed(1)
    tensors = {f"layers.{n}.weight": torch.randint(0, 256, (1024, 1024), dtype=torch.uint8) for n in range(32)}
    url = put_folder(store, tmp_path / "folder", tensors)
    first = program(RESHARD, url)
    while first.is_alive() and len(names(store, "llama")) < 5:
        time.sleep(0.002)
    first.kill()
    first.join()
    assert resharding.CLAIM_FILE in names(store, "llama")
    assert equal(url, tensors)
    size = sum(info.size for info in store.transport.list("packs/"))
    finish(program(RESHARD, url))
    assert names(store, "llama") == {f"model-{n:05}-of-00016.safetensors" for n in range(1, 17)} | {
        "config.json",
        INDEX_FILE,
    }
    assert sum(info.size for info in store.transport.list("packs/")) < 1.01 * size
    assert equal(url, tensors)
