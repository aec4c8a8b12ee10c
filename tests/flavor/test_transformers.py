"""What this flavor stores, transformers reads, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

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


def test_a_directory_that_transformers_saved_is_a_model(llama: Any, tmp_path: Path) -> None:
    llama.save_pretrained(tmp_path / "saved")
    uri = flavor.log_model(tmp_path / "saved", name="llama").model_uri
    assert same(flavor.load_model(uri), llama)
    answer = mlflow.pyfunc.load_model(uri).predict({"input_ids": WORDS.numpy()})
    assert np.array_equal(answer["logits"], llama(WORDS).logits.detach().numpy())


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
