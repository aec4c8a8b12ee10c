"""A stored model gets other files, and its tensors are not sent again."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
import torch
from safetensors.torch import save_file

import shardflow
from flavor.divided import equal, names, put_folder, weights
from flavor.models import NET, net, same
from shardflow import flavor
from shardflow.flavor.errors import CheckpointUnusable, ModelMissing, ShardAltered, ShardMissing
from shardflow.flavor.index import INDEX_FILE
from shardflow.flavor.plans import PlanUnknown
from shardflow.store.store import Store


@pytest.mark.parametrize("sharding", ["layers", "balanced", "attention", "single"])
def test_a_folder_is_divided_anew_and_only_headers_and_small_tensors_are_sent(
    sharding: str, large: Store, tmp_path: Path
) -> None:
    tensors = weights()
    url = put_folder(large, tmp_path / "folder", tensors)
    if sharding == "single":
        flavor.reshard(url, "balanced", 400_000)
    done = flavor.reshard(url, sharding, 500_000)
    size = sum(tensor.nbytes for tensor in tensors.values())
    assert done.changed
    assert done.plan.size == size
    assert (len(done.plan.shards) == 1) == (sharding == "single")
    assert done.progress.totals.bytes_sent < 0.02 * size
    assert done.progress.bytes_reused > 0.98 * size
    files = {shard.file for shard in done.plan.shards}
    assert names(large, "llama") == files | {"config.json"} | ({INDEX_FILE} if len(files) > 1 else set())
    assert equal(url, tensors)


def test_no_chunk_of_a_large_tensor_is_stored_a_second_time(large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights())
    before = large.manifest("llama/model.safetensors").table
    kept = {before.id(row) for row in range(len(before)) if before.size[row] > 10_000}
    done = flavor.reshard(url, "layers", 500_000)
    after = [large.manifest(f"llama/{shard.file}").table for shard in done.plan.shards]
    large_now = {table.id(row) for table in after for row in range(len(table)) if table.size[row] > 10_000}
    assert large_now == kept
    assert {pack for table in after for pack in table.packs} & set(before.packs) == set(before.packs)


def test_what_is_downloaded_afterwards_is_what_transformers_reads(large: Store, tmp_path: Path) -> None:
    tensors = weights()
    url = put_folder(large, tmp_path / "folder", tensors)
    flavor.reshard(url, "balanced", 500_000)
    shardflow.get(url, tmp_path / "back")
    index = json.loads((tmp_path / "back" / INDEX_FILE).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
    assert index["weight_map"].keys() == tensors.keys()
    from safetensors import safe_open

    for name, file in index["weight_map"].items():
        with safe_open(tmp_path / "back" / file, "pt") as opened:
            assert torch.equal(opened.get_tensor(name), tensors[name])
            assert opened.metadata() == {"format": "pt", "made": "by hand"}


def test_a_logged_model_tells_of_its_new_files_everywhere(store: Store, experiment: str) -> None:
    model = net(tied=True)
    info = flavor.log_model(model, name="net", factory=NET, factory_arguments={"tied": True})
    location = mlflow.get_logged_model(info.model_id).artifact_location
    card = shardflow.open(f"{location}/MODEL_CARD.md").read().decode()
    done = flavor.reshard(info.model_uri, "balanced", 100_000)
    files = {shard.file for shard in done.plan.shards}
    assert len(files) == 3

    assert same(flavor.load_model(info.model_uri), model)
    recipe = json.loads(shardflow.open(f"{location}/weights/recipe.json").read())
    assert recipe["sharding"] == "balanced"
    assert {file["name"] for file in recipe["files"]} == files
    assert recipe["aliases"] == {"lm_head.weight": "embed.weight"}
    told = shardflow.open(f"{location}/MODEL_CARD.md").read().decode()
    assert "| Files | 3, sharded: balanced |" in told
    assert all(f"\n{file['digest']}  weights/{file['name']}\n" in told for file in recipe["files"])
    assert "weights/model.safetensors" not in told
    sent = "| Sent to the store | "
    assert told[told.index(sent) :].splitlines()[0] == card[card.index(sent) :].splitlines()[0]
    described = shardflow.open(f"{location}/MLmodel").read().decode()
    assert f"model_size_bytes: {sum(file['size'] for file in recipe['files'])}" in described
    tags = mlflow.get_logged_model(info.model_id).tags
    assert (tags["shardflow.sharding"], tags["shardflow.files"]) == ("balanced", "3")
    assert mlflow.pyfunc.load_model(info.model_uri).predict(torch.ones(2, 3).numpy()).shape == (2, 3, 100)


def test_a_registered_model_is_found_by_its_name(store: Store, experiment: str) -> None:
    flavor.log_model(net(), name="net", factory=NET, registered_model_name=f"net of {experiment}")
    done = flavor.reshard(f"models:/net of {experiment}/1", "layers", 100_000)
    assert len(done.plan.shards) == 5
    assert same(flavor.load_model(f"models:/net of {experiment}/1"), net())


def test_weights_below_model_are_found_as_mlflow_transformers_logs_them(large: Store, tmp_path: Path) -> None:
    tensors = weights(2)
    url = put_folder(large, tmp_path / "folder", tensors, "m/model")
    (tmp_path / "MLmodel").write_text("flavors: {}\nmodel_size_bytes: 5\n")
    large.put(tmp_path / "MLmodel", "m/MLmodel")
    done = flavor.reshard(url.removesuffix("/model"), "balanced", 400_000)
    assert done.url == url
    assert equal(url, tensors)
    size = sum(large.stat(f"m/model/{shard.file}").size for shard in done.plan.shards)
    assert large.open("m/MLmodel").read().decode() == f"flavors: {{}}\nmodel_size_bytes: {size}\n"


def test_the_same_files_with_other_tensors_in_them_get_the_names_that_are_theirs(large: Store, tmp_path: Path) -> None:
    tensors = weights()
    url = put_folder(large, tmp_path / "folder", tensors)
    first = flavor.reshard(url, "layers", 700_000)
    second = flavor.reshard(url, "balanced", 650_000)
    assert [shard.file for shard in first.plan.shards] == [shard.file for shard in second.plan.shards]
    assert first.plan.shards != second.plan.shards
    assert names(large, "llama") == {shard.file for shard in second.plan.shards} | {"config.json", INDEX_FILE}
    assert second.progress.totals.bytes_sent < 0.03 * second.plan.size
    assert equal(url, tensors)


def test_a_model_that_has_these_files_already_is_left_alone(large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights())
    assert not flavor.reshard(url).changed
    assert flavor.reshard(url, "layers", 500_000).changed
    created = {entry.path: entry.created for entry in large.ls("llama", details=True)}
    again = flavor.reshard(url, "layers", 500_000)
    assert not again.changed
    assert {entry.path: entry.created for entry in large.ls("llama", details=True)} == created


def test_the_plan_does_not_depend_on_how_the_model_is_divided_now(large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights(12))
    straight = flavor.reshard(url, "balanced", 500_000, dry_run=True).plan
    flavor.reshard(url, "attention", 300_000)
    assert flavor.reshard(url, "balanced", 500_000, dry_run=True).plan == straight


def test_a_dry_run_changes_nothing(large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights())
    keys = {info.key: info.modified for info in large.transport.list()}
    done = flavor.reshard(url, "layers", 500_000, dry_run=True)
    assert (done.changed, len(done.plan.shards)) == (True, 6)
    assert {info.key: info.modified for info in large.transport.list()} == keys


def test_a_version_that_is_stored_as_a_delta_stays_one(large: Store, tmp_path: Path) -> None:
    tensors = weights()
    put_folder(large, tmp_path / "v1", tensors, "v1")
    tuned = {name: tensor + 1e-4 * torch.randn_like(tensor) for name, tensor in tensors.items()}
    url = put_folder(large, tmp_path / "v2", tuned, "v2")
    stored = large.stat("v2").codecs.get("delta", 0)
    assert stored > 30
    done = flavor.reshard(url, "balanced", 500_000)
    assert large.stat("v2").codecs["delta"] == stored
    assert done.progress.totals.bytes_sent < 0.03 * done.plan.size
    assert equal(url, tuned)


def test_what_is_not_a_model_in_a_store_is_refused(large: Store, tmp_path: Path, elsewhere: str) -> None:
    (tmp_path / "notes.txt").write_text("none")
    large.put(tmp_path / "notes.txt", "notes/notes.txt")
    with pytest.raises(ModelMissing, match="no safetensors files"):
        flavor.reshard(str(large.url.joined("notes")))
    info = flavor.log_model(net(), name="net", factory=NET)
    with pytest.raises(ModelMissing, match="is not in a store; 'shardflow migrate'"):
        flavor.reshard(info.model_uri)
    with pytest.raises(PlanUnknown, match="layers, balanced, attention, single"):
        flavor.reshard(str(large.url), "alphabetic")


def test_files_that_contradict_each_other_are_refused(large: Store, tmp_path: Path) -> None:
    tensors = weights(2)
    url = put_folder(large, tmp_path / "folder", tensors)
    flavor.reshard(url, "layers", 500_000)
    index = large.open(f"llama/{INDEX_FILE}").read()
    table = json.loads(index)
    del table["weight_map"]["model.layers.0.norm.weight"]
    (tmp_path / INDEX_FILE).write_text(json.dumps(table))
    large.put(tmp_path / INDEX_FILE, f"llama/{INDEX_FILE}")
    with pytest.raises(CheckpointUnusable, match=r"does not name model.layers.0.norm.weight"):
        flavor.reshard(url, "single")
    table["weight_map"]["lost.weight"] = table["weight_map"]["model.embed_tokens.weight"]
    (tmp_path / INDEX_FILE).write_text(json.dumps(table))
    large.put(tmp_path / INDEX_FILE, f"llama/{INDEX_FILE}")
    with pytest.raises(ShardAltered, match=r"has no lost.weight"):
        flavor.reshard(url, "single")
    large.rm(f"llama/{INDEX_FILE}")
    save_file({"lm_head.weight": tensors["lm_head.weight"]}, tmp_path / "more.safetensors")
    large.put(tmp_path / "more.safetensors", "llama/more.safetensors")
    with pytest.raises(CheckpointUnusable, match=r"lm_head.weight is in more than one file"):
        flavor.reshard(url, "single")


@pytest.mark.parametrize("file", ["../other/model.safetensors", "/llama/model.safetensors", ".."])
def test_an_index_that_names_a_file_outside_is_refused(file: str, large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights(2))
    (tmp_path / INDEX_FILE).write_text(json.dumps({"weight_map": {"lm_head.weight": file}}))
    large.put(tmp_path / INDEX_FILE, f"llama/{INDEX_FILE}")
    with pytest.raises(CheckpointUnusable, match="not a file beside it"):
        flavor.reshard(url, "balanced", 500_000)
    assert names(large, "llama") == {"model.safetensors", "config.json", INDEX_FILE}


def test_a_model_that_has_lost_a_file_is_left_as_it_is(large: Store, tmp_path: Path) -> None:
    url = put_folder(large, tmp_path / "folder", weights())
    done = flavor.reshard(url, "layers", 500_000)
    large.rm(f"llama/{done.plan.shards[2].file}")
    before = names(large, "llama")
    with pytest.raises(ShardMissing, match=f"has no {done.plan.shards[2].file}"):
        flavor.reshard(url, "single")
    assert names(large, "llama") == before
