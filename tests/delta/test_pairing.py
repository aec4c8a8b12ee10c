"""Tensors are recognised by their names, by what is left of these, and by their values where names say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from delta.local import Local
from delta.models import Model, as_file, laid_out, model, reading, trained
from shardflow.delta import pairing
from shardflow.delta.pairing import pairs
from shardflow.dtype import DType
from shardflow.layout import Layout, Segment
from timing import worked


def paired(new: Model, old: Model, dtype: DType = DType.F32) -> tuple[dict[str, str], int]:
    """Names of tensors that belong together, and how often the older file was read."""
    file, base = as_file(new, dtype), Local(as_file(old))
    base.reads.clear()
    layout = laid_out(file)
    found = pairs(layout, base.layout, reading(file), base.read_at)
    names = {layout.segments[n].name: base.layout.segments[o].name for n, o in found.items()}
    return names, len(base.reads)


SAME = {name: name for name in model()}


def test_tensors_of_the_same_name_belong_together_without_a_look_at_them() -> None:
    assert paired(trained(model()), model()) == (SAME, 0)


def test_a_cast_keeps_the_names() -> None:
    assert paired(model(), model(), DType.BF16) == (SAME, 0)


@pytest.mark.parametrize("rows", [100, 3000])
def test_a_tensor_may_get_or_lose_rows(rows: int) -> None:
    changed = model() | {"head.weight": np.resize(model()["head.weight"], (rows, 128))}
    assert paired(changed, model())[0] == SAME


def test_a_tensor_of_other_width_is_another_tensor() -> None:
    changed = model() | {"head.weight": np.ones((2000, 130), "<f4")}
    assert "head.weight" not in paired(changed, model())[0]


@pytest.mark.parametrize("prefix", ["model.", "module.", "base_model.model."])
def test_a_prefix_that_came_or_went_changes_nothing(prefix: str) -> None:
    wrapped = {prefix + name: values for name, values in model().items()}
    assert paired(wrapped, model()) == ({prefix + name: name for name in model()}, 0)
    assert paired(model(), wrapped) == ({name: prefix + name for name in model()}, 0)


def test_renamed_tensors_are_known_by_their_values() -> None:
    later = trained(model(), 1e-4)
    renamed = {f"t{hash_of}": values for hash_of, values in enumerate(reversed(later.values()))}
    names = dict(zip(renamed, reversed(later), strict=True))
    found, reads = paired(renamed, model())
    assert found == names
    assert reads == len(model())


def test_unrelated_tensors_of_one_shape_are_not_paired() -> None:
    other = {f"t{n}": values for n, values in enumerate(model(9).values())}
    assert paired(other, model())[0] == {}


def test_constant_tensors_are_paired_only_if_they_are_equal() -> None:
    ones, twos = np.ones((40, 40), "<f4"), np.full((40, 40), 2, "<f4")
    assert paired({"a": ones}, {"b": ones.copy()})[0] == {"a": "b"}
    assert paired({"a": ones}, {"b": twos})[0] == {}


def test_values_that_are_no_numbers_match_nothing() -> None:
    nothing = np.full((40, 40), np.nan, "<f4")
    assert paired({"a": nothing}, {"b": nothing.copy()})[0] == {}


def test_so_many_tensors_without_names_are_not_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "MOST_LOOKED_AT", 3)
    renamed = {f"t{n}": values for n, values in enumerate(model().values())}
    assert paired(renamed, model())[1] <= 3


def large_layout(prefix: str) -> Layout:
    """The tensors of a model of eighty layers."""
    shapes = {"q": (8192, 8192), "k": (1024, 8192), "up": (28672, 8192), "down": (8192, 28672), "norm": (8192,)}
    segments, offset = [], 0
    for layer in range(80):
        for name, shape in shapes.items():
            length = 2 * int(np.prod(shape))
            segments.append(Segment(offset, length, DType.BF16, f"{prefix}layers.{layer}.{name}.weight", shape))
            offset += length
    return Layout("safetensors", tuple(segments), bytes(32))


@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_large_model_is_paired_at_once(prefix: str) -> None:
    def never(offset: int, length: int) -> bytes:
        raise AssertionError("nothing needs to be read")

    def paired() -> dict[int, int]:
        return pairs(large_layout(prefix), large_layout(""), never, never)

    assert paired() == {n: n for n in range(400)}
    assert worked(paired) < 5
