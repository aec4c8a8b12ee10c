"""Models through a live server, both ways: MLflow's own flavors with no line of ours, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pytest
import torch

from flavor.models import NET, net, same
from shardflow import flavor
from shardflow.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from e2e.conftest import Live

pytestmark = pytest.mark.slow
REQUIREMENTS = ["torch", "transformers"]  # named: else MLflow loads the model once more to find them out
INPUTS = np.arange(8.0).reshape(4, 2)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub is asked for anything."""
    from huggingface_hub import constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_model_of_sklearn_is_logged_unchanged_registered_and_loaded(live: Live) -> None:
    from sklearn.linear_model import LinearRegression

    model = LinearRegression().fit(INPUTS, INPUTS.sum(axis=1))
    with mlflow.start_run():
        info = mlflow.sklearn.log_model(
            model, name="line", registered_model_name="line", pip_requirements=["scikit-learn"]
        )
    for uri in (info.model_uri, f"models:/line/{info.registered_model_version}"):
        assert np.allclose(mlflow.pyfunc.load_model(uri).predict(INPUTS), INPUTS.sum(axis=1))


def test_a_module_of_torch_is_logged_unchanged_and_loaded(live: Live) -> None:
    module = torch.nn.Linear(3, 2)
    with mlflow.start_run():
        info = mlflow.pytorch.log_model(
            module, name="linear", serialization_format="pickle", pip_requirements=REQUIREMENTS
        )
    loaded: Any = mlflow.pytorch.load_model(info.model_uri)
    assert torch.equal(loaded.weight, module.weight)
    assert torch.equal(loaded.bias, module.bias)


@pytest.mark.usefixtures("offline")
def test_a_model_of_transformers_is_logged_unchanged_and_loaded(live: Live) -> None:
    model = llama()
    with mlflow.start_run():
        info = mlflow.transformers.log_model(
            {"model": model, "tokenizer": tokenizer()}, name="llama", task="text-generation",
            pip_requirements=REQUIREMENTS,
        )  # fmt: skip
    loaded = mlflow.transformers.load_model(info.model_uri, return_type="components")
    assert same(loaded["model"], model)
    assert loaded["tokenizer"]("two one").input_ids == [2, 1]


@pytest.mark.usefixtures("offline")
def test_what_mlflows_flavor_logged_of_transformers_ours_reads_where_it_is(direct: Live) -> None:
    model = llama()
    info = mlflow.transformers.log_model(
        {"model": model, "tokenizer": tokenizer()}, name="llama", task="text-generation", pip_requirements=REQUIREMENTS
    )
    location = mlflow.get_logged_model(info.model_id).artifact_location
    weights = flavor.load_state_dict(f"{location}/model")
    assert torch.equal(weights["model.embed_tokens.weight"], model.model.embed_tokens.weight)


def test_a_module_is_logged_loaded_and_predicts(live: Live) -> None:
    module = net()
    with mlflow.start_run() as run:
        info = flavor.log_model(module, name="net", factory=NET, registered_model_name="net", max_shard_bytes=100_000)
    version = f"models:/net/{info.registered_model_version}"
    for uri in (info.model_uri, version, f"runs:/{run.info.run_id}/net"):
        assert same(flavor.load_model(uri), module)
    words = np.array([[1, 2, 3]])
    wanted = module(torch.from_numpy(words)).detach().numpy()
    assert np.array_equal(mlflow.pyfunc.load_model(version).predict(words), wanted)


def test_a_second_version_sends_what_changed_if_its_client_writes_to_the_store(live: Live) -> None:
    module = net(width=256)
    arguments = {"name": "net", "factory": NET, "factory_arguments": {"width": 256}}
    first = flavor.log_model(module, **arguments)
    packs = stored_bytes(live)
    with torch.no_grad():
        module.layers[1].mlp.weight.mul_(1.001)
    second = flavor.log_model(module, base_model=first.model_uri, **arguments)
    assert stored_bytes(live) - packs < 0.15 * 4_149_248
    assert same(flavor.load_model(second.model_uri), module)
    tags = mlflow.get_logged_model(second.model_id).tags
    assert tags["shardflow.parent"] == first.model_id
    assert (tags["shardflow.tensors_changed"], tags["shardflow.tensors_unchanged"]) == ("1", "19")
    assert ("shardflow.delta" in tags) == (live.mode == "direct")  # which only those who see the store can know


def test_a_part_of_a_model_is_loaded(live: Live) -> None:
    module = net()
    info = flavor.log_model(module, name="net", factory=NET)
    part = flavor.load_state_dict(info.model_uri, tensors="layers.1.*")
    assert sorted({name.rpartition(".")[0] for name in part}) == [
        "layers.1.back", "layers.1.mlp", "layers.1.self_attn",
    ]  # fmt: skip
    assert torch.equal(part["layers.1.mlp.weight"], module.layers[1].mlp.weight)


def test_a_log_to_the_end_of_a_model_that_exists_makes_it_ready(live: Live, tmp_path: Path) -> None:
    unfinished = mlflow.initialize_logged_model(name="net")
    assert str(unfinished.status) == "PENDING"
    flavor.log_model(net(), name="net", factory=NET, model_id=unfinished.model_id)
    assert str(mlflow.get_logged_model(unfinished.model_id).status) == "READY"
    assert same(flavor.load_model(f"models:/{unfinished.model_id}"), net())


def stored_bytes(live: Live) -> int:
    return sum(info.size for info in Store.find(live.store)[0].transport.list("packs/"))


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=4
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tokenizer() -> Any:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(WordLevel({"<unk>": 0, "one": 1, "two": 2, "<eos>": 3}, unk_token="<unk>"))
    made.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")
