"""What this flavor stores, transformers reads, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from flavor.models import same
from shardflow import flavor
from shardflow.flavor.errors import NotRebuildable

pytestmark = pytest.mark.usefixtures("experiment")
WORDS = torch.arange(6)[None]


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def llama(request: pytest.FixtureRequest) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, vocab_size=100,
        tie_word_embeddings=request.param,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_a_model_of_transformers_needs_no_factory(llama: Any) -> None:
    loaded: Any = flavor.load_model(flavor.log_model(llama, name="llama", max_shard_bytes=30_000).model_uri)
    assert same(loaded, llama)
    assert torch.equal(loaded(WORDS).logits, llama(WORDS).logits)
    tied = llama.config.tie_word_embeddings
    assert (loaded.lm_head.weight is loaded.model.embed_tokens.weight) == tied


def test_transformers_reads_what_is_downloaded(llama: Any, tmp_path: Path) -> None:
    uri = flavor.log_model(llama, name="llama", sharding="attention", max_shard_bytes=30_000).model_uri
    mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "weights")
    assert torch.equal(loaded(WORDS).logits, llama(WORDS).logits)


def test_what_vllm_looks_for_is_in_what_is_downloaded(llama: Any, tmp_path: Path) -> None:
    """It takes the safetensors of a directory that the index names, and every tensor of each, by its name in the file;
    what kind of model it is, by its config.
    """
    uri = flavor.log_model(llama, name="llama", max_shard_bytes=30_000).model_uri
    weights = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))) / "weights"
    index = json.loads((weights / "model.safetensors.index.json").read_text())["weight_map"]
    assert {file.name for file in weights.glob("*.safetensors")} == set(index.values())
    found: dict[str, torch.Tensor] = {}
    for file in sorted(weights.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            assert opened.metadata()["format"] == "pt"
            assert {index[name] for name in opened.keys()} == {file.name}  # noqa: SIM118  # it is no mapping
            found |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    left_out = {"lm_head.weight"} if llama.config.tie_word_embeddings else set()
    assert found.keys() == index.keys() == llama.state_dict().keys() - left_out
    assert all(torch.equal(tensor, llama.state_dict()[name]) for name, tensor in found.items())
    config = AutoConfig.from_pretrained(weights)
    assert (config.architectures, config.model_type) == (["LlamaForCausalLM"], "llama")
    assert config.tie_word_embeddings == llama.config.tie_word_embeddings


def test_a_directory_that_transformers_saved_is_a_model(llama: Any, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path / "saved")
    uri = flavor.log_model(tmp_path / "saved", name="llama").model_uri
    assert same(flavor.load_model(uri), llama)
    answer = mlflow.pyfunc.load_model(uri).predict({"input_ids": WORDS.numpy()})
    assert np.array_equal(answer["logits"], llama(WORDS).logits.detach().numpy())


def test_how_a_model_writes_is_as_it_was_set(llama: Any) -> None:
    llama.generation_config.update(max_new_tokens=7, pad_token_id=2, eos_token_id=99, repetition_penalty=1.7)
    loaded: Any = flavor.load_model(flavor.log_model(llama, name="llama").model_uri)
    assert loaded.generation_config.to_dict() == llama.generation_config.to_dict()
    assert torch.equal(loaded.generate(WORDS), llama.generate(WORDS))


def with_another_head(model: Any) -> None:
    model.lm_head = torch.nn.Sequential(torch.nn.Linear(32, 16), torch.nn.Linear(16, 100))


def with_one_more_parameter(model: Any) -> None:
    model.model.norm.register_parameter("gate", torch.nn.Parameter(torch.ones(1)))


def with_more_classes(model: Any) -> None:
    model.lm_head = torch.nn.Linear(32, 7, bias=False)


@pytest.mark.parametrize("change", [with_another_head, with_one_more_parameter, with_more_classes])
def test_a_model_that_is_not_as_its_config_says_is_not_made_from_it(llama: Any, change: Any) -> None:
    change(llama)
    with pytest.raises(
        NotRebuildable, match=r"make a LlamaForCausalLM again: its config does not tell of .*trust=True"
    ):
        flavor.log_model(llama, name="llama")
    info = flavor.log_model(llama, name="llama", trust=True)
    loaded: Any = flavor.load_model(info.model_uri, trust=True)
    assert torch.equal(loaded(WORDS).logits, llama(WORDS).logits)


def test_nothing_is_made_up_for_a_directory_whose_weights_are_not_those_of_its_config(
    llama: Any, tmp_path: Path
) -> None:
    with_another_head(llama)
    llama.config.tie_word_embeddings = False
    llama.save_pretrained(tmp_path / "saved")
    uri = flavor.log_model(tmp_path / "saved", name="llama").model_uri
    with pytest.raises(NotRebuildable, match=r"has no weights that fit lm_head.weight of the LlamaForCausalLM"):
        flavor.load_model(uri)
    assert "lm_head.0.weight" in flavor.load_state_dict(uri)


def test_weights_become_the_type_that_is_asked_for(llama: Any) -> None:
    loaded = flavor.load_model(flavor.log_model(llama, name="llama").model_uri, dtype="bfloat16")
    assert {each.dtype for each in loaded.parameters()} == {torch.bfloat16}


def test_a_class_that_transformers_does_not_have_is_told(llama: Any, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path / "saved")
    config = tmp_path / "saved" / "config.json"
    for name in ("SomethingNewForCausalLM", "pipeline"):
        config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": [name]}))
        uri = flavor.log_model(tmp_path / "saved", name="llama").model_uri
        with pytest.raises(NotRebuildable, match=f"is a {name}, which transformers .* does not have"):
            flavor.load_model(uri)
