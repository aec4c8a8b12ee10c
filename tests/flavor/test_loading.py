"""Loading: all of a model, some of its tensors, a part of each, or layer by layer; no more is read than is needed."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import torch

from flavor.models import NET, Net, Scaled, net, same, same_tensors
from shardflow import flavor
from shardflow.flavor import Rank
from shardflow.flavor.errors import (
    CheckpointUnusable,
    ModelMissing,
    NotRebuildable,
    ShardAltered,
    ShardMissing,
    TensorUnusable,
    TrustRequired,
)
from shardflow.flavor.folders import StoreFolder
from shardflow.flavor.loading import WEIGHTS
from shardflow.flavor.stored_weights import StoredWeights
from shardflow.store.config import Settings
from shardflow.store.errors import ChunkDamaged, PackMissing, StoreMissing
from shardflow.store.store import Store

SECOND = "model-00002-of-00005.safetensors"

pytestmark = pytest.mark.usefixtures("experiment")


def location(uri: str) -> str:
    return str(mlflow.get_logged_model(uri.removeprefix("models:/")).artifact_location)


def test_a_model_comes_back_as_it_was_from_every_uri_it_has(module: Net, uri: str) -> None:
    with mlflow.start_run() as run:
        flavor.log_model(module, name="again", factory=NET)
    for each in (uri, location(uri), f"runs:/{run.info.run_id}/again"):
        assert same(flavor.load_model(each), module)


def test_patterns_choose_tensors(module: Net, uri: str) -> None:
    some = flavor.load_model(uri, tensors="layers.0.*")
    assert some.keys() == {name for name in module.state_dict() if name.startswith("layers.0.")}
    assert flavor.load_state_dict(uri, tensors=["lm_head.*", "embed.*"]).keys() == {"lm_head.weight", "embed.weight"}
    with pytest.raises(CheckpointUnusable, match=r"no tensor of .* is called transformer"):
        flavor.load_state_dict(uri, tensors="transformer.*")


def test_ranks_load_their_slices_and_together_they_have_the_whole(module: Net, uri: str) -> None:
    rules = [{"*.mlp.weight": Rank(rank, of=4), "*.back.weight": Rank(rank, of=4, dim=1)} for rank in range(4)]
    parts = [flavor.load_state_dict(uri, slices=rule) for rule in rules]
    whole = module.state_dict()
    for name, dim in (("layers.1.mlp.weight", 0), ("layers.1.back.weight", 1)):
        assert torch.equal(torch.cat([part[name] for part in parts], dim), whole[name])
    assert torch.equal(parts[2]["embed.weight"], whole["embed.weight"])


@pytest.mark.parametrize("box", [(slice(3, 70),), (slice(None), slice(10, 20)), (slice(torch.tensor(5), 6), slice(-3))])
def test_any_slice_is_the_one_torch_would_give(module: Net, uri: str, box: tuple[slice, ...]) -> None:
    (part,) = flavor.load_state_dict(uri, tensors="embed.weight", slices={"*": box}).values()
    assert torch.equal(part, module.embed.weight[box])
    (same_part,) = flavor.load_state_dict(uri, tensors="embed.weight", slices=lambda *_: box).values()
    assert torch.equal(same_part, part)


@pytest.mark.parametrize("rule", [Rank(0, of=3, dim=1), Rank(4, of=4), slice(0, 9, 2), (slice(0),) * 3, 0, slice(0.5)])
def test_a_slice_that_cannot_be_is_refused(uri: str, rule: object) -> None:
    with pytest.raises(TensorUnusable):
        flavor.load_state_dict(uri, tensors="embed.weight", slices={"*": rule})


def test_tensors_larger_than_a_piece_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shardflow.flavor.reading.PIECE_BYTES", 100)
    state = {"experts": torch.randn(3, 5, 40), "bias": torch.randn(500), "one": torch.tensor(1.5)}
    uri = flavor.log_model(state, name="net").model_uri
    part = flavor.load_state_dict(uri, slices={"experts": (slice(1, 3), slice(2, 4), slice(7, 9))}, dtype="float64")
    assert torch.equal(part["experts"], state["experts"][1:3, 2:4, 7:9].double())
    assert torch.equal(part["bias"], state["bias"].double())
    assert part["one"] == 1.5


def test_numbers_become_another_type_on_the_way(uri: str, module: Net) -> None:
    loaded = flavor.load_model(uri, dtype="bfloat16")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert torch.equal(loaded.embed.weight, module.embed.weight.bfloat16())
    with pytest.raises(NotRebuildable, match="no type called 'float7'"):
        flavor.load_model(uri, dtype="float7")


def test_what_is_chosen_may_be_sliced_and_become_another_type_all_the_same(uri: str, module: Net) -> None:
    options = {"slices": {"*.weight": Rank(1, of=2), "layers.0.*": slice(1)}, "dtype": "float16", "device": "cpu"}
    chosen = ["layers.1.*.weight", "lm_head.*"]
    names = [name for name in module.state_dict() if name.startswith("layers.1.") and name.endswith("weight")]
    loaded = flavor.load_state_dict(uri, tensors=chosen, **options)
    assert sorted(loaded) == sorted([*names, "lm_head.weight"])
    for name, tensor in loaded.items():
        whole = module.state_dict()[name].half()
        assert torch.equal(tensor, whole[len(whole) // 2 :])
    one_by_one = list(flavor.iter_tensors(uri, tensors=chosen, **options))
    assert [name for name, _ in one_by_one] == list(loaded)
    assert same_tensors(dict(one_by_one), loaded)
    assert same_tensors(flavor.load_model(uri, tensors=chosen, **options), loaded)


@pytest.mark.parametrize("tensors", [3, ["layers.*", 3], b"layers.*"])
def test_what_is_no_pattern_is_refused(uri: str, tensors: object) -> None:
    for load in (
        flavor.load_model,
        flavor.load_state_dict,
        lambda *args, **named: next(flavor.iter_tensors(*args, **named)),
    ):
        with pytest.raises(CheckpointUnusable, match=r"are no names of tensors; pass a pattern such as"):
            load(uri, tensors=tensors)


def test_whole_numbers_keep_their_type() -> None:
    uri = flavor.log_model({"steps": torch.arange(5), "flags": torch.ones(2, dtype=torch.bool)}, name="net").model_uri
    state = flavor.load_state_dict(uri, dtype=torch.float16)
    assert (state["steps"].dtype, state["flags"].dtype) == (torch.int64, torch.bool)


def test_tensors_come_one_after_the_other(uri: str, module: Net) -> None:
    state = module.state_dict()
    seen = dict(flavor.iter_tensors(uri))
    assert seen.keys() == state.keys()
    assert all(torch.equal(seen[name], state[name]) for name in state)


def test_tied_tensors_may_be_sliced_each_in_its_own_way() -> None:
    embedding = torch.randn(10, 4)
    uri = flavor.log_model({"embed": embedding, "head": embedding}, name="net").model_uri
    state = flavor.load_state_dict(uri, slices={"head": Rank(1, of=2)})
    assert torch.equal(state["embed"], embedding)
    assert torch.equal(state["head"], embedding[5:])


def test_what_a_module_computes_for_itself_is_there_too() -> None:
    module = Scaled()
    uri = flavor.log_model(module, name="scaled", factory="flavor.models:Scaled").model_uri
    loaded = flavor.load_model(uri)
    assert torch.equal(loaded.steps, module.steps)
    assert torch.equal(loaded(torch.ones(8)), module(torch.ones(8)))


@pytest.fixture
def chunks_as_usual(tmp_path: Path, experiment: str) -> None:
    """Another experiment, which logs to a store with chunks as large as they are by default."""
    root = Store.init(str(tmp_path.resolve() / "large"), Settings(pack_bytes=16 << 20)).url
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(f"large {tmp_path}", artifact_location=str(root)))


@pytest.mark.usefixtures("chunks_as_usual")
def test_one_tensor_of_a_large_model_costs_its_own_bytes() -> None:
    state = {f"layers.{n}.weight": torch.randn(1000, 512).bfloat16() for n in range(48)}
    uri = flavor.log_model(state, name="large").model_uri
    store, path = Store.find(location(uri))
    before = store.transport.totals.bytes_received
    with StoredWeights(StoreFolder(store, f"{path}/{WEIGHTS}")) as weights:
        tensor = weights.read("layers.7.weight")
    assert torch.equal(tensor, state["layers.7.weight"])
    assert store.transport.totals.bytes_received - before <= tensor.nbytes + (1 << 20)


def stored_as_it_is() -> dict[str, torch.Tensor]:
    """What does not compress: numbers of which every bit is as likely as any other."""
    numbers = torch.Generator().manual_seed(5)
    return {
        f"layers.{n}.weight": torch.randint(-128, 128, (2048, 1024), generator=numbers).to(torch.int8) for n in (0, 1)
    }


@pytest.mark.usefixtures("chunks_as_usual")
def test_tensors_stored_as_they_are_become_pages_of_the_store() -> None:
    state = stored_as_it_is()
    uri = flavor.log_model(state, name="numbers").model_uri
    loaded = flavor.load_state_dict(uri)
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert all(b"/packs/" in mapping_of(tensor) for tensor in loaded.values())
    for tensor in loaded.values():
        tensor.zero_()
    again = flavor.load_state_dict(uri, mapped=False)
    assert all(torch.equal(again[name], state[name]) for name in state)
    assert not any(b"/packs/" in mapping_of(tensor) for tensor in again.values())


def mapping_of(tensor: torch.Tensor) -> bytes:
    """The line of this process's list of mappings that the middle of a tensor is in."""
    place = tensor.data_ptr() + tensor.nbytes // 2
    for line in Path("/proc/self/maps").read_bytes().splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split(b"-"))
        if first <= place < last:
            return line
    raise AssertionError("it is in no mapping")


def test_a_state_dict_has_no_module_and_says_so() -> None:
    uri = flavor.log_model(net().state_dict(), name="net").model_uri
    with pytest.raises(NotRebuildable, match="use load_state_dict"):
        flavor.load_model(uri)
    assert same(flavor.load_model(uri, into=Net()), net())


def test_a_directory_that_was_put_without_mlflow_is_a_model_too(store: Store, uri: str, tmp_path: Path) -> None:
    _, path = Store.find(location(uri))
    store.get(f"{path}/weights", tmp_path / "weights")
    (tmp_path / "weights" / "recipe.json").unlink()
    store.put(tmp_path / "weights", "plain")
    assert flavor.load_state_dict(f"{store.url}/plain").keys() == net().state_dict().keys()
    assert flavor.load_state_dict(str(tmp_path / "weights")).keys() == net().state_dict().keys()


# What is wrong is said, and what is altered is never loaded.


@pytest.mark.parametrize(
    "uri",
    ["models:/nobody/1", "models:/m-00000000000000000000000000000000", "runs:/0123456789abcdef/net", "models:/odd"],
)
def test_a_uri_that_names_no_model_is_told(uri: str) -> None:
    with pytest.raises(ModelMissing, match="names no model"):
        flavor.load_model(uri)


def test_a_place_that_has_no_model_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match="does not exist"):
        flavor.load_model(f"{store.url}/nothing/here")
    with pytest.raises(StoreMissing):
        flavor.load_model(f"shardflow://file{tmp_path}/no-store/here")
    with pytest.raises(ModelMissing):
        flavor.load_model(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointUnusable, match=r"empty is in no checkpoint format that is known here; name it: "):
        flavor.load_model(str(tmp_path / "empty"))


def test_a_missing_shard_is_named(store: Store, uri: str) -> None:
    _, path = Store.find(location(uri))
    store.rm(f"{path}/weights/{SECOND}")
    with pytest.raises(ShardMissing, match=f"has no {SECOND}"):
        flavor.load_model(uri)


def test_a_shard_of_another_model_is_not_taken_for_its_own(store: Store, uri: str, tmp_path: Path) -> None:
    _, path = Store.find(location(uri))
    other = flavor.log_model(net(seed=1), name="other", factory=NET, max_shard_bytes=100_000)
    _, there = Store.find(location(other.model_uri))
    name = f"weights/{SECOND}"
    store.get(f"{there}/{name}", tmp_path / "shard")
    store.put(tmp_path / "shard", f"{path}/{name}")
    with pytest.raises(ShardAltered, match="not the file that was logged"):
        flavor.load_model(uri)


def test_damage_in_the_store_is_found(store: Store, uri: str) -> None:
    for info in list(store.transport.list("packs/")):
        data = bytearray(store.transport.read(info.key))
        data[len(data) // 2] ^= 1
        store.transport.write(info.key, bytes(data))
    with pytest.raises((ChunkDamaged, PackMissing)):
        flavor.load_model(uri)


def test_an_altered_file_on_disk_is_found(uri: str, tmp_path: Path) -> None:
    mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    shard = tmp_path / "weights" / SECOND
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ShardAltered, match="not the file that was logged"):
        flavor.load_model(str(tmp_path))
    shard.write_bytes(data[:-8])
    with pytest.raises((ShardAltered, CheckpointUnusable)):
        flavor.load_model(str(tmp_path), tensors="*")


@pytest.mark.parametrize(
    "index", [b"{", b'{"weight_map": {"a": "../../secret.safetensors"}}', b'{"weight_map": {"a": 1}}']
)
def test_an_index_that_leads_elsewhere_is_refused(uri: str, tmp_path: Path, index: bytes) -> None:
    mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    (tmp_path / "weights" / "model.safetensors.index.json").write_bytes(index)
    with pytest.raises(CheckpointUnusable, match=r"index\.json"):
        flavor.load_model(str(tmp_path))


def test_a_tensor_that_its_file_does_not_have_is_told(uri: str, tmp_path: Path) -> None:
    mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    index = tmp_path / "weights" / "model.safetensors.index.json"
    index.write_text(index.read_text().replace('"lm_head.weight"', '"lm_tail.weight"'))
    with pytest.raises(ShardAltered, match=r"has no lm_tail\.weight"):
        flavor.load_state_dict(str(tmp_path))


@pytest.mark.parametrize("recipe", ["[]", '{"format": 9, "sharding": "x", "files": [], "aliases": {}}'])
def test_a_recipe_from_elsewhere_is_refused(uri: str, tmp_path: Path, recipe: str) -> None:
    mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    (tmp_path / "weights" / "recipe.json").write_text(recipe)
    with pytest.raises(CheckpointUnusable, match=r"recipe\.json"):
        flavor.load_model(str(tmp_path))


def test_a_function_that_could_do_anything_needs_trust() -> None:
    uri = flavor.log_model(net(), name="net", factory="flavor.models:anything", factory_arguments={"command": "rm"})
    with pytest.raises(TrustRequired, match="may do anything"):
        flavor.load_model(uri.model_uri)
