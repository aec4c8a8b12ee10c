"""A tensor is predicted in the ways that served a sample of it, wherever its bytes lie in the older file."""

from __future__ import annotations

import numpy as np
import pytest

from delta import models
from delta.local import Local, best_of
from delta.models import Model, as_file, laid_out, merged, model, reading, trained
from shardflow.codec import CodecId
from shardflow.delta.effort import Effort
from shardflow.delta.predicting import Predictor
from shardflow.dtype import DType
from shardflow.layout import Segment


def predictor(new: bytes, old: bytes, step: int = 0, effort: Effort | None = None) -> Predictor:
    return Predictor(laid_out(new), reading(new), Local(old, step), effort)


def tensor(file: bytes, name: str) -> Segment:
    return next(segment for segment in laid_out(file).segments if segment.name == name)


def left_of(predictor: Predictor, file: bytes, segment: Segment) -> tuple[float, set[CodecId]]:
    """The share that is left of a whole tensor as one chunk, and which predictions were worth trying."""
    start, end = segment.offset, segment.offset + segment.length
    attempts = predictor.attempts(start, end, memoryview(file)[start:end])
    return best_of(attempts, file[start:end], segment.dtype), {attempt.prediction.codec for attempt in attempts}


def rounded_file(values: Model, dtype: DType) -> bytes:
    return as_file(values, dtype)


def test_a_trained_tensor_is_near_what_it_was() -> None:
    old, new = as_file(model()), as_file(trained(model(), 1e-7))
    share, ways = left_of(predictor(new, old), new, tensor(new, "head.weight"))
    assert share < 0.4
    assert CodecId.DELTA in ways


def test_a_tensor_that_only_shrank_by_weight_decay_costs_next_to_nothing() -> None:
    decayed = {name: values * np.float32(1 - 2e-5) for name, values in model().items()}
    old, new = as_file(model()), as_file(decayed)
    share, ways = left_of(predictor(new, old), new, tensor(new, "head.weight"))
    assert share < 0.02
    assert CodecId.CAST in ways


@pytest.mark.parametrize("step", [0, 4096, 65536])
@pytest.mark.parametrize(
    ("before", "after"), [(DType.F32, DType.BF16), (DType.BF16, DType.F32), (DType.F32, DType.F16)]
)
def test_a_cast_is_predicted_however_the_older_file_was_cut(before: DType, after: DType, step: int) -> None:
    values = models.rounded(model(), DType.BF16)
    old, new = as_file(values, before), as_file(values, after)
    share, ways = left_of(predictor(new, old, step), new, tensor(new, "embedding.weight"))
    if step == 4096:  # more pieces than a chunk may rest on
        assert ways == set()
    else:
        assert (share < 0.01, ways) == (True, {CodecId.CAST})


def test_a_base_that_is_at_hand_is_tried_without_a_look() -> None:
    old, new = as_file(model(), DType.BF16), as_file(trained(model(), 1e-5), DType.BF16)
    base = Local(old, at_hand=True)
    using = Predictor(laid_out(new), reading(new), base, Effort(low_rank=0))
    share, ways = left_of(using, new, tensor(new, "head.weight"))
    assert (share < 0.4, ways) == (True, {CodecId.DELTA})
    assert base.reads == []


@pytest.mark.parametrize(("chunk_bytes", "looks"), [(4 << 20, 0), (4096, 1)])
def test_a_tensor_of_one_chunk_is_tried_without_a_look(chunk_bytes: int, looks: int) -> None:
    old, new = as_file(model(), DType.BF16), as_file(trained(model(), 1e-5), DType.BF16)
    base = Local(old)
    using = Predictor(laid_out(new), reading(new), base, Effort(low_rank=0, chunk_bytes=chunk_bytes))
    assert left_of(using, new, tensor(new, "head.weight"))[0] < 0.4
    assert len(base.reads) == looks


def test_rows_that_were_added_are_not_predicted_and_spoil_nothing() -> None:
    grown = trained(model(), 1e-7)
    grown["head.weight"] = np.concatenate([grown["head.weight"], model(7)["head.weight"]])
    old, new = as_file(model()), as_file(grown)
    segment = tensor(new, "head.weight")
    using = predictor(new, old)
    half = segment.offset + segment.length // 2
    assert using.attempts(segment.offset, half, memoryview(new)[segment.offset : half])
    assert not using.attempts(half, half + 512, memoryview(new)[half : half + 512])


def test_small_tensors_that_share_a_chunk_are_predicted_together() -> None:
    old, new = as_file(model()), as_file(trained(model(), 1e-7))
    norms = [tensor(new, f"layers.{n}.norm.weight") for n in range(3)]
    attention = [tensor(new, f"layers.{n}.mlp.weight") for n in range(1, 3)]
    assert norms[0].offset < attention[0].offset, "they lie between the larger ones of their layer"
    start, end = tensor(new, "layers.0.mlp.weight").offset, norms[0].offset + norms[0].length
    data = new[start:end]
    assert best_of(predictor(new, old).attempts(start, end, memoryview(data)), data, DType.F32) < 0.4


def test_small_tensors_that_lay_otherwise_are_left_alone() -> None:
    old = as_file(model() | {"layers.0.nine": np.zeros((5, 3), "<f4")})
    new = as_file(model())
    start = tensor(new, "layers.0.mlp.weight").offset
    end = tensor(new, "layers.0.norm.weight").offset + 512
    assert predictor(new, old).attempts(start, end, memoryview(new)[start:end]) == []


@pytest.mark.parametrize("dtype", [DType.F32, DType.BF16, DType.F16])
def test_an_adapter_that_was_merged_is_found(dtype: DType) -> None:
    before = models.rounded(model(), dtype)
    old, new = as_file(before, dtype), as_file(merged(before, models.adapter(strength=3)), dtype)
    share, ways = left_of(predictor(new, old), new, tensor(new, "layers.1.attention.weight"))
    assert CodecId.LOWRANK in ways
    assert share < 0.2


def test_an_adapter_is_not_looked_for_where_that_is_not_wished() -> None:
    old, new = as_file(model()), as_file(merged(model(), models.adapter(strength=3)))
    using = predictor(new, old, effort=Effort(low_rank=0))
    assert CodecId.LOWRANK not in left_of(using, new, tensor(new, "layers.1.attention.weight"))[1]


def test_unrelated_numbers_are_not_tried() -> None:
    old, new = as_file(model(1)), as_file(model(2))
    assert left_of(predictor(new, old), new, tensor(new, "head.weight")) == (1.0, set())


def test_a_model_is_more_like_its_parent_than_like_a_stranger() -> None:
    new = as_file(trained(model(), 1e-7))
    parent, stranger = predictor(new, as_file(model())), predictor(new, as_file(model(3)))
    assert parent.likeness() < 0.5 < stranger.likeness()


def test_a_file_without_a_common_tensor_is_no_base() -> None:
    using = predictor(as_file(model()), as_file({"other": np.ones((3, 5), "<f4")}))
    assert len(using) == 0
    assert using.likeness() == 1.0


def test_integers_are_predicted_too_but_not_from_another_type() -> None:
    from safetensors.numpy import save

    steps = np.arange(50_000, dtype="<i8")
    old, new = save({"steps": steps}), save({"steps": steps + 3})
    share, ways = left_of(predictor(new, old), new, tensor(new, "steps"))
    assert (share < 0.01, ways) == (True, {CodecId.DELTA})
    other = save({"steps": steps.astype("<i4")})
    assert left_of(predictor(new, other), new, tensor(new, "steps"))[1] == set()


def test_a_table_whose_begin_is_never_used_is_judged_by_its_middle() -> None:
    after = model()
    after["head.weight"][500:] += trained(model(), 1e-3)["head.weight"][500:] - model()["head.weight"][500:]
    old, new = as_file(model()), as_file(after)
    start = tensor(new, "head.weight").offset
    assert predictor(new, old).expected(start, start + 512) > 0.5
