from __future__ import annotations

import math
import random
from collections import Counter, OrderedDict
from typing import Any, NamedTuple

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from shardflow.flavor.checkpointing.errors import StateUnusable
from shardflow.flavor.checkpointing.trees import DEEPEST, decode_tree, encode_tree, flatten, unflatten
from shardflow.flavor.errors import CheckpointUnusable, TensorUnusable


class Pair(NamedTuple):
    left: int
    right: int


keys = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.binary(max_size=5), st.tuples(st.integers()))
values = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), st.binary(), st.complex_numbers()
)
states = st.recursive(
    values,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(keys, inner),
        st.dictionaries(st.text(), inner).map(OrderedDict),
    ),
    max_leaves=20,
)


def back(state: Any) -> Any:
    flat = flatten(state)
    return unflatten(decode_tree(encode_tree(flat.tree), "it"), flat.tensors)


def alike(left: Any, right: Any) -> bool:
    """Equal, and of the same types all the way down; keys in the same order."""
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        pairs = zip(left.items(), right.items(), strict=True)
        return all(alike(mine, theirs) for one, other in pairs for mine, theirs in zip(one, other, strict=True))
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(alike, left, right))
    return bool(left == right) or (isinstance(left, complex) and cmath_nan(left) and cmath_nan(right))


def cmath_nan(value: complex) -> bool:
    return math.isnan(value.real) or math.isnan(value.imag)


@given(states)
def test_a_state_of_plain_values_comes_back_with_all_its_types(state: Any) -> None:
    assert alike(back(state), state)


@pytest.mark.parametrize("value", [math.inf, -math.inf, -0.0, 5e-324, 2**200, -(2**63), 2**63])
def test_numbers_that_json_is_bad_at_come_back(value: float) -> None:
    found = back([value])[0]
    assert type(found) is type(value)
    assert found == value
    assert math.copysign(1, found) == math.copysign(1, value)
    assert math.isnan(back(math.nan))


@pytest.mark.parametrize(
    "value",
    [
        torch.bfloat16,
        torch.device("cuda", 3),
        torch.Size([2, 3]),
        Counter({3: 1, 5: 2}),
        {1, 2, 3},
        frozenset(["a"]),
        np.float64(0.1),
        np.int8(-3),
        np.str_("text"),
        np.str_(""),
        np.bytes_(b""),
        np.datetime64("2024-05-06"),
        random.getstate(),
        bytes(range(256)) * 64,
        np.random.default_rng(3).bit_generator.state,
    ],
)
def test_what_trainings_keep_beside_tensors_comes_back(value: Any) -> None:
    found = back({"it": value})["it"]
    assert type(found) is type(value)
    assert found == value


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint16).reshape(2, 3),
        np.zeros((0, 3), np.float32),
        np.array(3.5),
        np.array(["ab", "cde"]),
        np.arange(4, dtype=">i4"),
        np.arange(12.0).reshape(3, 4).T,
        np.array([1 + 2j]),
        np.array([True, False]),
        np.frombuffer(b"12345678", np.uint8),
    ],
)
def test_an_array_comes_back_writable_and_the_same(array: np.ndarray[Any, Any]) -> None:
    found = back([array])[0]
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert np.array_equal(found, array)
    assert found.flags.writeable


def test_tensors_are_named_by_their_place_and_not_copied() -> None:
    weight, moment = torch.ones(2), torch.zeros(3, dtype=torch.bfloat16)
    flat = flatten({"module": {"a.weight": weight}, "optimizer": {"state": {0: {"exp_avg": moment}}}})
    assert {name: tensor.data_ptr() for name, tensor in flat.tensors.items()} == {
        "module.a.weight": weight.data_ptr(),
        "optimizer.state.0.exp_avg": moment.data_ptr(),
    }


def test_names_that_would_be_the_same_are_told_apart() -> None:
    state = {"a": {"b": torch.ones(1)}, "a.b": torch.zeros(1), 0: torch.full((1,), 2.0), "0": torch.full((1,), 3.0)}
    found = back(state)
    assert [found["a"]["b"].item(), found["a.b"].item(), found[0].item(), found["0"].item()] == [1, 0, 2, 3]
    assert back({"__metadata__": torch.ones(1)})["__metadata__"].item() == 1


def test_a_key_that_no_file_could_have_as_a_name_comes_back() -> None:
    state = {"\ud800": torch.ones(1), "\udfff": torch.zeros(1)}  # noqa: F601  # which ruff takes for one
    assert back(state) == state
    assert all(name.encode() for name in flatten(state).tensors)


def test_a_tensor_in_two_places_is_one_afterwards() -> None:
    shared = torch.ones(3)
    flat = flatten({"a": shared, "b": shared, "c": shared[:2]})
    assert list(flat.tensors) == ["a", "c"]
    made = unflatten(flat.tree, flat.tensors)
    assert made["a"] is made["b"]


def test_complex_tensors_and_parameters_come_back_as_tensors() -> None:
    wide = torch.randn(4, dtype=torch.complex128)
    found = back([wide, torch.nn.Parameter(torch.ones(2)), torch.randn(2, dtype=torch.complex64).conj()])
    assert torch.equal(found[0], wide)
    assert type(found[1]) is torch.Tensor
    assert not found[1].requires_grad


def test_what_a_state_dict_notes_of_its_modules_survives() -> None:
    state = torch.nn.Sequential(torch.nn.BatchNorm1d(3)).state_dict()
    assert back(state)._metadata == state._metadata


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"a": [1, {"hook": print}]}, r"a\.1\.hook is a .*builtin_function"),
        ({"optimizer": torch.optim.SGD([torch.ones(1)])}, r"optimizer is a torch\.optim\.sgd\.SGD; .*state_of"),
        ({"a": Pair(1, 2)}, "a is a .*Pair"),
        ({"a": np.array([object()])}, "a is an array of object"),
        ({"a": np.array(["text"], dtype=np.dtypes.StringDType())}, r"a is an array of StringDType\(\)"),
        ({"a": torch.ones(2, 2).to_sparse()}, "a is a sparse"),
        ({"a": torch.empty(2, device="meta")}, "a is on the meta device"),
        ({"a": {print: 1}}, "a has the key <built-in function print>"),
        (object(), "the state is a object"),
    ],
)
def test_what_cannot_be_stored_is_named_by_its_path(state: Any, said: str) -> None:
    with pytest.raises((StateUnusable, TensorUnusable), match=said):
        flatten(state)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_is_named_by_its_path(layout: torch.layout) -> None:
    nested = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=layout)
    with pytest.raises((StateUnusable, TensorUnusable), match=r"a\.0 is a .*nested"):
        flatten({"a": [nested]})


def test_a_state_that_holds_itself_is_refused() -> None:
    state: dict[str, Any] = {}
    state["self"] = state
    with pytest.raises(StateUnusable, match="nests too deeply"):
        flatten(state)
    deep: Any = 1
    for _ in range(DEEPEST - 1):
        deep = [deep]
    assert back(deep) == deep


@pytest.mark.parametrize(
    "tree",
    [
        {"tensor": "gone"},
        {"tensor": ["a"]},
        {"unknown": 1},
        {"a": 1, "b": 2},
        {},
        {"tuple": 5},
        {"dict": 7},
        {"dict": [[1]]},
        {"dict": [[[], 1]]},
        {"set": [[1]]},
        {"array": ["a", "O", [1]]},
        {"array": ["a", "<f4", [9]]},
        {"scalar": ["O", "AAAAAAAAAAA="]},
        {"bytes": "!"},
        {"dtype": "nn"},
        {"dtype": "load"},
        {"int": "zz"},
        {"counter": {"a": {"tensor": "b"}}},
    ],
)
def test_a_tree_that_was_tampered_with_is_refused(tree: Any) -> None:
    with pytest.raises(CheckpointUnusable):
        unflatten(tree, {"a": torch.ones(1)})


def test_a_file_that_is_no_tree_is_refused() -> None:
    for data in (b"\xff", b"{", b"[" * 100_000):
        with pytest.raises(CheckpointUnusable):
            decode_tree(data, "it")
