"""Logging a model: whatever it is given as, it ends as safetensors in the store, and nothing of it passes the disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.models import infer_signature
from safetensors.torch import load, save_file

import shardflow
from flavor.models import NET, make_net, net, same, same_tensors
from shardflow import flavor
from shardflow.flavor.errors import CheckpointUnusable, NotRebuildable, TensorUnusable, TrustRequired
from shardflow.store.store import Store

pytestmark = pytest.mark.usefixtures("experiment")


def stored(store: Store, info: mlflow.models.model.ModelInfo) -> dict[str, bytes]:
    """Every file of a logged model, by its path in the model."""
    _, root = Store.find(mlflow.get_logged_model(info.model_id).artifact_location)
    paths = [entry.path for entry in store.ls(root, recursive=True)]
    return {path.removeprefix(f"{root}/"): store.open(path).read() for path in paths}


def test_a_module_becomes_a_model_that_transformers_could_read(store: Store) -> None:
    module = net()
    info = flavor.log_model(module, name="net", factory=NET)
    files = stored(store, info)
    assert set(files) == {
        "MLmodel", "MODEL_CARD.md", "conda.yaml", "python_env.yaml", "requirements.txt",
        "weights/model.safetensors", "weights/recipe.json",
    }  # fmt: skip
    tensors = load(files["weights/model.safetensors"])
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in module.state_dict().items())


def test_a_model_in_several_files_has_the_index_of_hugging_face(store: Store) -> None:
    info = flavor.log_model(net(), name="net", factory=NET, sharding="layers", max_shard_bytes=100_000)
    files = stored(store, info)
    index = json.loads(files["weights/model.safetensors.index.json"])
    assert index["metadata"] == {"total_size": sum(tensor.nbytes for tensor in net().state_dict().values())}
    for name, file in index["weight_map"].items():
        assert name in load(files[f"weights/{file}"])
    assert len(set(index["weight_map"].values())) == sum(name.endswith(".safetensors") for name in files) > 2


def test_nothing_of_the_weights_is_written_to_disk(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    written: list[str] = []
    real = Store.put

    def seen(self: Store, source: object, *arguments: object, **options: object) -> object:
        written.extend(str(path) for path in scratch.rglob("*") if path.is_file())
        return real(self, source, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "put", seen)
    flavor.log_model(net(), name="net", factory=NET)
    assert any(path.endswith("MLmodel") for path in written)
    assert [path for path in written if path.endswith(".safetensors")] == []


def test_a_store_is_made_where_the_artifacts_begin(tmp_path: Path, tracking_uri: str) -> None:
    root = f"shardflow://file{tmp_path.resolve()}/new"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(f"new {tmp_path}", artifact_location=f"{root}/7"))
    info = flavor.log_model(net(), name="net", factory=NET)
    assert str(Store.find(info.artifact_path)[0].url) == root
    assert same(flavor.load_model(info.model_uri), net())


def test_two_trainings_that_log_below_a_root_without_a_store_at_once_both_log(
    tmp_path: Path, tracking_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = f"shardflow://file{tmp_path.resolve()}/new"
    mlflow.set_experiment(experiment_id=mlflow.create_experiment(f"both {tmp_path}", artifact_location=f"{root}/7"))
    init = Store.init

    def late(url: str) -> Store:
        monkeypatch.setattr(Store, "init", init)
        init(url)  # by the other one
        return init(url)

    monkeypatch.setattr(Store, "init", late)
    info = flavor.log_model(net(), name="net", factory=NET)
    assert str(Store.find(info.artifact_path)[0].url) == root
    assert same(flavor.load_model(info.model_uri), net())


@pytest.mark.parametrize("ending", [".pt", ".bin", ".safetensors"])
def test_a_checkpoint_is_logged_from_where_it_is(tmp_path: Path, ending: str) -> None:
    state = net().state_dict()
    path = tmp_path / f"checkpoint{ending}"
    if ending == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    info = flavor.log_model(path, name="checkpoint")
    back = flavor.load_state_dict(info.model_uri)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_a_safetensors_file_is_stored_as_it_is_or_divided_if_that_is_asked_for(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(net().state_dict(), path)
    whole = flavor.log_model(path, name="whole")
    assert stored(store, whole)["weights/model.safetensors"] == path.read_bytes()
    divided = flavor.log_model(path, name="divided", max_shard_bytes=100_000)
    assert "weights/model.safetensors" not in stored(store, divided)
    assert same_tensors(flavor.load_state_dict(divided.model_uri), net().state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_the_weights_in_a_training_checkpoint_are_found(tmp_path: Path, key: str) -> None:
    torch.save({key: net().state_dict(), "epoch": 3}, tmp_path / "last.ckpt")
    info = flavor.log_model(tmp_path / "last.ckpt", name="checkpoint")
    assert same_tensors(flavor.load_state_dict(info.model_uri), net().state_dict())


def test_a_directory_keeps_what_lies_beside_its_weights(store: Store, tmp_path: Path) -> None:
    save_file(net().state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architectures": ["NetForTests"]}')
    (tmp_path / "tokenizer.json").write_text("{}")
    torch.save({}, tmp_path / "pytorch_model.bin")
    info = flavor.log_model(tmp_path, name="directory")
    beside = {name for name in stored(store, info) if name.startswith("weights/")}
    kept = ("model.safetensors", "config.json", "tokenizer.json", "recipe.json")
    assert beside == {f"weights/{name}" for name in kept}


def test_an_example_leaves_the_layers_of_a_training_in_their_modes() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    module.train()
    module[1].eval()
    info = flavor.log_model(module, name="net", trust=True, input_example=np.ones((2, 4), np.float32))
    assert info.signature is not None
    assert [module.training, module[0].training, module[1].training] == [True, True, False]


class Counted(torch.nn.Linear):
    """Keeps more than tensors in its state dict."""

    seen = 0

    def get_extra_state(self) -> dict[str, int]:
        return {"seen": self.seen}


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
def test_a_module_whose_state_is_more_than_tensors_comes_back_with_its_pickle(kind: str) -> None:
    counted = torch.nn.Sequential(Counted(2, 2), torch.nn.Linear(2, 2))
    counted[0].seen = 7
    uri = flavor.log_model(counted, name="net", trust=True, format=kind).model_uri
    back = flavor.load_model(uri, trust=True)
    assert back[0].get_extra_state() == {"seen": 7}
    assert same_tensors(flavor.load_state_dict(uri), dict(counted.named_parameters()))


def test_a_module_whose_state_is_more_than_tensors_does_not_come_back_by_a_factory(store: Store) -> None:
    arguments = {"in_features": 2, "out_features": 2}
    for options in ({}, {"factory": "torch.nn:Linear", "factory_arguments": arguments, "trust": True}):
        with pytest.raises(CheckpointUnusable, match=r"'_extra_state' is a dict; pass trust=True and no factory"):
            flavor.log_model(Counted(2, 2), name="net", **options)
    assert not [entry for entry in store.ls(recursive=True) if entry.path.endswith(".safetensors")]


def test_tied_weights_are_stored_once_and_tied_again() -> None:
    module = net(tied=True)
    info = flavor.log_model(module, name="tied", factory=NET, factory_arguments={"tied": True})
    back = flavor.load_model(info.model_uri)
    assert back.lm_head.weight is back.embed.weight
    assert same(back, module)
    state = flavor.load_state_dict(info.model_uri)
    assert state["lm_head.weight"] is state["embed.weight"]


def test_views_that_share_storage_are_each_stored_whole() -> None:
    storage = torch.arange(1000.0)
    state = {"first": storage[:600], "second": storage[400:], "all": storage.view(10, 100).t()}
    back = flavor.load_state_dict(flavor.log_model(state, name="views").model_uri)
    assert same_tensors(back, state)


def test_a_second_version_sends_what_changed_and_says_so() -> None:
    module = net(width=128, blocks=6)
    arguments = {"width": 128, "blocks": 6}
    first = flavor.log_model(module, name="net", factory=NET, factory_arguments=arguments)
    with torch.no_grad():
        module.lm_head.weight.mul_(1.01)
    with mlflow.start_run() as run:
        second = flavor.log_model(
            module, name="net", factory=NET, factory_arguments=arguments, base_model=first.model_uri
        )
    logged = mlflow.get_logged_model(second.model_id)
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    assert logged.tags["shardflow.parent"] == first.model_id
    assert logged.params["shardflow.base_model"] == first.model_uri
    assert int(logged.tags["shardflow.bytes_reused"]) > 0.9 * size
    assert int(logged.tags["shardflow.bytes_sent"]) < 0.15 * size
    assert [each.model_id for each in mlflow.get_run(run.info.run_id).inputs.model_inputs] == [first.model_id]
    assert same(flavor.load_model(second.model_uri), module)


def test_what_mlflow_keeps_of_a_model_is_kept() -> None:
    example = np.zeros((2, 5), np.float32)
    prompt = mlflow.genai.register_prompt("greeting", "Say hello to {{name}}")
    with mlflow.start_run():
        info = flavor.log_model(
            net(), name="net", factory=NET, input_example=example, metadata={"team": "vision"}, prompts=[prompt],
            registered_model_name="the-net", params={"width": 64}, tags={"stage": "trial"}, model_type="classifier",
            extra_pip_requirements=["einops"],
        )  # fmt: skip
    logged = mlflow.get_logged_model(info.model_id)
    assert info.signature == infer_signature(example, net()(torch.from_numpy(example)).detach().numpy())
    assert (info.metadata, info.prompts) == ({"team": "vision"}, [prompt.uri])
    assert (logged.params["width"], logged.tags["stage"], logged.model_type) == ("64", "trial", "classifier")
    assert same(flavor.load_model("models:/the-net/1"), net())
    assert {"einops", f"torch=={torch.__version__.partition('+')[0]}"} <= set(_requirements(info.model_uri))


def test_another_attempt_leaves_nothing_of_the_one_before(store: Store) -> None:
    model = mlflow.initialize_logged_model(name="net")
    for sharding in ("layers", "auto", "layers"):
        limit = 100_000 if sharding == "layers" else 10_000_000
        info = flavor.log_model(
            net(), name="net", factory=NET, model_id=model.model_id, sharding=sharding, max_shard_bytes=limit
        )
        names = {name for name in stored(store, info) if name.endswith((".safetensors", ".index.json"))}
        assert ("weights/model.safetensors" in names) == (sharding == "auto") == (len(names) == 1)
        assert same(flavor.load_model(info.model_uri), net())


def test_requirements_can_be_replaced() -> None:
    info = flavor.log_model(net(), name="net", factory=NET, pip_requirements=["torch"])
    assert _requirements(info.model_uri) == ["mlflow==" + mlflow.__version__, "torch"]


def test_a_module_that_nothing_can_rebuild_is_refused_before_anything_is_stored(store: Store) -> None:
    with pytest.raises(NotRebuildable, match=r"factory='package\.module:function'"):
        flavor.log_model(net(), name="net")
    assert not list(store.ls())


def test_a_module_that_pickle_does_not_take_is_refused(store: Store) -> None:
    module = torch.nn.Linear(2, 2)
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(NotRebuildable, match="a Linear cannot be pickled: cannot pickle"):
        flavor.log_model(module, name="net", trust=True)
    assert not list(store.ls())


def test_a_module_that_waits_for_its_first_input_is_refused() -> None:
    with pytest.raises(TensorUnusable, match="weight has no shape yet; call the module once"):
        flavor.log_model(torch.nn.LazyLinear(3), name="net", trust=True)


@pytest.mark.parametrize(
    ("factory", "arguments", "why"),
    [
        ("nowhere.at_all:make", None, "cannot be imported"),
        ("flavor.models:missing", None, "cannot be imported"),
        ("flavor.models:NET", None, "cannot be called"),
        (NET, {"width": object()}, "no JSON"),
    ],
)
def test_a_factory_that_would_not_be_found_again_is_refused(
    factory: str, arguments: dict[str, object], why: str
) -> None:
    with pytest.raises(NotRebuildable, match=why):
        flavor.log_model(make_net(), name="net", factory=factory, factory_arguments=arguments)


@pytest.mark.parametrize("model", [{"weight": 3}, {1: torch.zeros(2)}, {}, 42, "/no/such/file"])
def test_what_holds_no_weights_is_refused(model: object) -> None:
    with pytest.raises(CheckpointUnusable):
        flavor.log_model(model, name="odd")


def test_a_checkpoint_that_is_more_than_tensors_needs_trust(tmp_path: Path) -> None:
    torch.save(net(), tmp_path / "whole.pt")
    with pytest.raises(TrustRequired, match="trust=True"):
        flavor.log_model(tmp_path / "whole.pt", name="whole")
    info = flavor.log_model(tmp_path / "whole.pt", name="whole", trust=True)
    assert same_tensors(flavor.load_state_dict(info.model_uri), net().state_dict())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_a_broken_checkpoint_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises((CheckpointUnusable, TrustRequired), match=name):
        flavor.log_model(tmp_path / name, name="broken")


@pytest.mark.parametrize("file", ["../outside.safetensors", "/etc/passwd", "..", ""])
def test_an_index_that_names_a_file_outside_is_refused(tmp_path: Path, file: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(CheckpointUnusable, match="not a file beside it"):
        flavor.log_model(tmp_path, name="odd")


def _requirements(model_uri: str) -> list[str]:
    location = mlflow.get_logged_model(model_uri.removeprefix("models:/")).artifact_location
    return shardflow.open(f"{location}/requirements.txt").read().decode().split()
