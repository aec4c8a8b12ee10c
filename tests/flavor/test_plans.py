"""Plans hold for every model: each tensor once, no shard too large, and what each method promises beside that."""

from __future__ import annotations

from itertools import groupby

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flavor.models import transformer
from shardflow.flavor.errors import TensorUnusable
from shardflow.flavor.parts import Part, block_of, part_of
from shardflow.flavor.plans import METHODS, PlanUnknown, Shard, plan
from shardflow.flavor.tensors import TensorInfo
from shardflow.flavor.torch_types import shapes_of
from timing import worked

GB = 1_000_000_000
MODEL_26_GB = list(transformer(50, 5000, 9900, 50000))
MODEL_140_GB = list(transformer(68, 10000, 19950, 100000))
LLAMA_13B = list(transformer(40, 5120, 13824, 32000))
LLAMA_70B = list(transformer(80, 8192, 28672, 32000, 1024))

names = st.one_of(
    st.builds(
        "model.layers.{}.{}.weight".format, st.integers(0, 5), st.sampled_from(["self_attn.q_proj", "mlp.up", "norm"])
    ),
    st.sampled_from(["model.embed_tokens.weight", "lm_head.weight", "model.norm.weight", "scale"]),
)
tensors = st.dictionaries(names, st.integers(0, 400), max_size=30).map(
    lambda sizes: [TensorInfo(name, "U8", (size,)) for name, size in sizes.items()]
)


@given(tensors, st.sampled_from(sorted(METHODS)), st.integers(1, 1000))
def test_every_tensor_is_in_exactly_one_shard_and_no_shard_is_too_large(
    model: list[TensorInfo], method: str, limit: int
) -> None:
    made = plan(model, method, limit)
    placed = [tensor.name for shard in made.shards for tensor in shard.tensors]
    assert sorted(placed) == sorted(tensor.name for tensor in model)
    assert [shard for shard in made.shards if shard.size > limit and len(shard.tensors) > 1] == []


@given(tensors, st.integers(1, 1000))
def test_layers_keep_a_block_in_one_file_wherever_it_fits(model: list[TensorInfo], limit: int) -> None:
    shards = plan(model, "layers", limit).shards
    for block in {block_of(tensor.name) for tensor in model} - {""}:
        size = sum(tensor.size for tensor in model if block_of(tensor.name) == block)
        assert len(_files_of(block, shards)) == 1 or size > limit


@given(st.lists(st.integers(1, 100), min_size=100, max_size=300), st.integers(2500, 5000))
def test_balanced_shards_differ_by_less_than_five_percent(sizes: list[int], limit: int) -> None:
    shards = plan([TensorInfo(f"t{n}", "U8", (size,)) for n, size in enumerate(sizes)], "balanced", limit).shards
    filled = [shard.size for shard in shards]
    assert max(filled) - min(filled) <= 0.05 * max(filled)
    assert len(filled) <= -(-sum(sizes) // limit) + 1


@given(st.lists(st.integers(1, 100), min_size=100, max_size=300), st.integers(2500, 5000), st.integers(0, 5000))
def test_one_large_tensor_leaves_the_other_shards_even(sizes: list[int], limit: int, beyond: int) -> None:
    """As large as a file may be, or larger than that."""
    large = TensorInfo("large", "U8", (limit + beyond,))
    model = [large, *(TensorInfo(f"t{n}", "U8", (size,)) for n, size in enumerate(sizes))]
    shards = plan(model, "balanced", limit).shards
    others = [shard.size for shard in shards if large not in shard.tensors]
    assert [shard.tensors for shard in shards if large in shard.tensors] == [(large,)]
    assert max(others) - min(others) <= 0.05 * max(others)
    assert len(others) <= -(-sum(sizes) // limit) + 1


def test_a_tensor_larger_than_its_share_keeps_no_other_shard_from_being_evened() -> None:
    model = [TensorInfo(f"t{n}", "U8", (size,)) for n, size in enumerate([950, 300, 300, 200, 200, 200])]
    shards = plan(model, "balanced", 1000).shards
    assert sorted(shard.size for shard in shards) == [600, 600, 950]


@given(tensors, st.integers(1, 1000))
def test_attention_has_files_of_its_own_and_so_have_embeddings_and_heads(model: list[TensorInfo], limit: int) -> None:
    for shard in plan(model, "attention", limit).shards:
        assert len({part_of(tensor.name) for tensor in shard.tensors}) <= 1


@given(tensors, st.integers(1, 1000))
def test_the_attention_of_a_block_is_in_one_file_wherever_it_fits(model: list[TensorInfo], limit: int) -> None:
    shards = plan(model, "attention", limit).shards
    for block in {block_of(tensor.name) for tensor in model} - {""}:
        own = [tensor for tensor in model if block_of(tensor.name) == block and part_of(tensor.name) is Part.ATTENTION]
        files = {shard.file for shard in shards if set(own) & set(shard.tensors)}
        assert len(files) <= 1 or sum(tensor.size for tensor in own) > limit


@pytest.mark.parametrize("method", ["layers", "balanced", "auto"])
def test_a_model_of_26_gb_is_13_files_and_one_of_140_gb_is_70(method: str) -> None:
    for model, size, count in ((MODEL_26_GB, 26, 13), (MODEL_140_GB, 140, 70)):
        made = plan(model, method)
        assert abs(made.size - size * GB) < 0.01 * size * GB
        assert len(made.shards) == count


@pytest.mark.parametrize(
    ("model", "size", "counts"),
    [
        (LLAMA_13B, 26_031_728_640, {"layers": 14, "balanced": 14, "attention": 17}),
        (LLAMA_70B, 137_953_296_384, {"layers": 82, "balanced": 71, "attention": 96}),
    ],
    ids=["13B", "70B"],
)
def test_real_models_take_a_file_more_than_their_size_alone(
    model: list[TensorInfo], size: int, counts: dict[str, int]
) -> None:
    """13B is a little larger than 13 files hold, and tensors of 0.5 GB leave room at the end of each file of 70B."""
    made = {method: plan(model, method) for method in counts}
    assert {each.size for each in made.values()} == {size}
    assert {method: len(each.shards) for method, each in made.items()} == counts


@pytest.mark.parametrize(("model", "count"), [(MODEL_26_GB, 13), (MODEL_140_GB, 70)], ids=["26 GB", "140 GB"])
def test_balanced_plans_of_meta_tensors_are_made_in_less_than_a_second(model: list[TensorInfo], count: int) -> None:
    with torch.device("meta"):
        state = {tensor.name: torch.empty(tensor.shape, dtype=torch.bfloat16) for tensor in model}
    assert worked(lambda: plan(shapes_of(state), "balanced", 2 * GB)) < 1
    made = plan(shapes_of(state), "balanced", 2 * GB)
    filled = [shard.size for shard in made.shards]
    assert len(filled) == count
    assert max(filled) - min(filled) < 0.05 * max(filled)


def test_a_plan_is_made_of_tensors_without_memory() -> None:
    with torch.device("meta"):
        state = {tensor.name: torch.empty(tensor.shape, dtype=torch.bfloat16) for tensor in MODEL_26_GB}
    made = plan(shapes_of(state))
    assert (made.method, len(made.shards), made.aliases) == ("layers", 13, {})
    assert {shard.file for shard in made.shards} == {f"model-{n:05}-of-00013.safetensors" for n in range(1, 14)}


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_plan_of_a_70b_model_takes_less_than_a_second(method: str) -> None:
    assert worked(lambda: plan(LLAMA_70B, method)) < 1
    made = plan(LLAMA_70B, method)
    assert made.size == 137_953_296_384
    assert max(shard.size for shard in made.shards) <= 2 * GB


def test_the_balanced_plan_of_a_70b_model_is_even() -> None:
    filled = [shard.size for shard in plan(LLAMA_70B, "balanced").shards]
    assert max(filled) - min(filled) < 0.05 * max(filled)


def test_what_fits_into_one_file_is_one_file() -> None:
    made = plan(transformer(2, 64, 128, 100))
    assert (made.method, [shard.file for shard in made.shards]) == ("one file", ["model.safetensors"])


def test_blocks_that_fit_into_no_file_are_spread_evenly() -> None:
    assert plan(LLAMA_70B, max_shard_bytes=GB).method == "balanced"


def test_a_tensor_larger_than_a_shard_has_a_file_to_itself() -> None:
    model = [TensorInfo("small", "U8", (10,)), TensorInfo("large", "U8", (500,)), TensorInfo("other", "U8", (20,))]
    for method in METHODS:
        shards = plan(model, method, 100).shards
        assert [shard.tensors for shard in shards if shard.size > 100] == [(model[1],)]


def test_tied_tensors_are_stored_once() -> None:
    embedding = torch.zeros(10, 4)
    state = {"embed": embedding, "head": embedding, "part": embedding[:5], "turned": embedding.t()}
    made = plan(shapes_of(state))
    assert made.aliases == {"head": "embed"}
    assert [tensor.name for tensor in made.shards[0].tensors] == ["embed", "part", "turned"]


def test_tied_tensors_without_memory_are_told_too() -> None:
    with torch.device("meta"):
        embedding = torch.zeros(10, 4)
    assert plan(shapes_of({"embed": embedding, "head": embedding.detach()})).aliases == {"head": "embed"}


@pytest.mark.parametrize(("method", "limit"), [("alphabetic", 100), ("layers", 0), ("layers", -1)])
def test_a_plan_that_cannot_be_is_refused(method: str, limit: int) -> None:
    with pytest.raises(PlanUnknown):
        plan([TensorInfo("a", "U8", (1,))], method, limit)


def test_the_parts_of_an_attention_plan_come_in_one_run_each() -> None:
    lanes = [part_of(shard.tensors[0].name) for shard in plan(MODEL_26_GB, "attention").shards]
    assert [lane for lane, _ in groupby(lanes)] == [Part.EMBEDDING, Part.ATTENTION, Part.OTHER, Part.HEAD]


def _files_of(block: str, shards: tuple[Shard, ...]) -> set[str]:
    return {shard.file for shard in shards for tensor in shard.tensors if block_of(tensor.name) == block}


def test_names_that_are_known_to_be_tied_must_be_texts_as_well() -> None:
    embedding = TensorInfo("embed", "F32", (2, 2))
    assert plan([embedding], aliases={"head": "embed"}).aliases == {"head": "embed"}
    with pytest.raises(TensorUnusable, match="name that is no text"):
        plan([embedding], aliases={"head\ud800": "embed"})
