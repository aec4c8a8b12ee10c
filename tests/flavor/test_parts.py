"""The name of a tensor tells which part of a model it is, in the architectures that there are."""

from __future__ import annotations

import pytest

from shardflow.flavor.parts import Part, block_of, layer_of, part_of
from shardflow.flavor.plans import plan
from shardflow.flavor.tensors import TensorInfo

ARCHITECTURES = {
    "Llama": {
        Part.EMBEDDING: "model.embed_tokens.weight",
        Part.ATTENTION: "model.layers.0.self_attn.q_proj.weight model.layers.0.self_attn.o_proj.weight",
        Part.OTHER: "model.layers.0.input_layernorm.weight model.layers.0.mlp.down_proj.weight model.norm.weight",
        Part.HEAD: "lm_head.weight",
    },
    "Llama as Meta has it": {
        Part.EMBEDDING: "tok_embeddings.weight",
        Part.ATTENTION: "layers.0.attention.wq.weight layers.0.attention.wo.weight",
        Part.OTHER: "layers.0.feed_forward.w1.weight norm.weight",
        Part.HEAD: "output.weight",
    },
    "DeepSeek": {
        Part.ATTENTION: "model.layers.0.self_attn.kv_a_proj_with_mqa.weight model.layers.0.self_attn.kv_b_proj.weight",
        Part.OTHER: "model.layers.0.mlp.experts.7.up_proj.weight model.layers.0.mlp.gate.weight",
    },
    "GPT-2": {
        Part.EMBEDDING: "transformer.wte.weight transformer.wpe.weight",
        Part.ATTENTION: "transformer.h.0.attn.c_attn.weight transformer.h.0.attn.c_proj.bias",
        Part.OTHER: "transformer.h.0.mlp.c_fc.weight transformer.h.0.ln_1.weight transformer.ln_f.weight",
        Part.HEAD: "lm_head.weight",
    },
    "GPT-NeoX": {
        Part.EMBEDDING: "gpt_neox.embed_in.weight",
        Part.ATTENTION: "gpt_neox.layers.0.attention.query_key_value.weight gpt_neox.layers.0.attention.dense.weight",
        Part.OTHER: "gpt_neox.layers.0.mlp.dense_h_to_4h.weight gpt_neox.final_layer_norm.weight",
        Part.HEAD: "embed_out.weight",
    },
    "BLOOM": {
        Part.EMBEDDING: "transformer.word_embeddings.weight transformer.word_embeddings_layernorm.weight",
        Part.ATTENTION: "transformer.h.0.self_attention.query_key_value.weight",
        Part.OTHER: "transformer.h.0.mlp.dense_h_to_4h.weight",
    },
    "BERT": {
        Part.EMBEDDING: "bert.embeddings.word_embeddings.weight bert.embeddings.LayerNorm.weight",
        Part.ATTENTION: "bert.encoder.layer.0.attention.self.query.weight "
        "bert.encoder.layer.0.attention.output.dense.weight",
        Part.OTHER: "bert.encoder.layer.0.intermediate.dense.weight bert.encoder.layer.0.output.dense.weight",
        Part.HEAD: "cls.predictions.transform.dense.weight cls.predictions.bias",
    },
    "T5": {
        Part.EMBEDDING: "shared.weight encoder.embed_tokens.weight",
        Part.ATTENTION: "decoder.block.0.layer.0.SelfAttention.q.weight "
        "decoder.block.0.layer.1.EncDecAttention.k.weight "
        "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        Part.OTHER: "decoder.block.0.layer.2.DenseReluDense.wi.weight decoder.final_layer_norm.weight",
        Part.HEAD: "lm_head.weight",
    },
    "Whisper": {
        Part.EMBEDDING: "model.decoder.embed_tokens.weight model.decoder.embed_positions.weight",
        Part.ATTENTION: "model.decoder.layers.0.self_attn.k_proj.weight "
        "model.decoder.layers.0.encoder_attn.v_proj.weight",
        Part.OTHER: "model.decoder.layers.0.fc1.weight model.encoder.conv1.weight",
        Part.HEAD: "proj_out.weight",
    },
    "ViT as timm has it": {
        Part.EMBEDDING: "cls_token pos_embed patch_embed.proj.weight",
        Part.ATTENTION: "blocks.0.attn.qkv.weight blocks.0.attn.proj.weight",
        Part.OTHER: "blocks.0.mlp.fc1.weight blocks.0.norm1.weight norm.weight",
        Part.HEAD: "head.weight head.bias",
    },
    "torch.nn.Transformer": {
        Part.ATTENTION: "decoder.layers.0.self_attn.in_proj_weight decoder.layers.0.multihead_attn.out_proj.weight",
        Part.OTHER: "decoder.layers.0.linear1.weight decoder.norm.weight",
    },
}


@pytest.mark.parametrize("parts", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_name_tells_the_part_of_a_model(parts: dict[Part, str]) -> None:
    assert {part: [name for name in names.split() if part_of(name) is not part] for part, names in parts.items()} == {
        part: [] for part in parts
    }


@pytest.mark.parametrize("parts", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_the_attention_of_a_block_is_in_one_file_and_embeddings_and_heads_in_others(parts: dict[Part, str]) -> None:
    """Whatever comes between them in the state dict."""
    by_name = {name: part for part, names in parts.items() for name in names.split()}
    model = [TensorInfo(name.replace(".0.", f".{block}.", 1), "U8", (10,)) for block in (0, 1) for name in by_name]
    unique = list({tensor.name: tensor for tensor in reversed(model)}.values())
    shards = plan(unique, "attention", 40).shards
    homes = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
    attention = parts[Part.ATTENTION].split()
    for block in (0, 1):
        assert len({homes[name.replace(".0.", f".{block}.", 1)] for name in attention}) == 1
    files = {part: {homes[name] for name in names.split()} for part, names in parts.items()}
    assert sum(map(len, files.values())) == len(set().union(*files.values()))


def test_a_layer_is_a_block_or_the_owner_of_a_tensor() -> None:
    assert block_of("model.layers.7.mlp.experts.3.w1.weight") == "model.layers.7"
    assert [layer_of(name) for name in ("h.7.attn.bias", "lm_head.weight", "cls_token")] == [
        "h.7",
        "lm_head",
        "cls_token",
    ]
