"""Semantic versions: written, ordered, found by alias, and proposed from what changed between two models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_alias_name

from registry.logged import Place, own_place, safetensors
from shardflow.registry.proposing import difference, interface_of, proposed, signature_in
from shardflow.registry.references import find
from shardflow.registry.versions import (
    FIRST,
    Change,
    VersionInvalid,
    alias_of,
    following,
    from_alias,
    latest,
    order,
    parse,
)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        yield made


def test_versions_are_in_the_order_that_semver_says() -> None:
    texts = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0"]
    versions = [parse(text) for text in texts]
    shuffled = [versions[number] for number in (5, 2, 7, 0, 4, 1, 6, 3)]
    assert sorted(shuffled, key=order) == versions
    assert latest(versions) == parse("1.10.0")
    assert latest([]) is None


@pytest.mark.parametrize("text", ["1", "1.2", "a.b.c", "1.2.3.4", "01.2.3", "1.2.3+build", "99999999999.0.0", ""])
def test_what_is_no_version_of_a_model_is_refused(text: str) -> None:
    with pytest.raises(VersionInvalid):
        parse(text)


def test_a_version_that_no_column_could_keep_is_refused() -> None:
    with pytest.raises(VersionInvalid, match="longer"):
        parse("1.0.0-" + "a" * 97)


def test_the_parts_of_a_version_are_those_that_the_registry_keeps() -> None:
    found = parse("v1.4.2-rc.1")
    assert (found.text, found.major, found.minor, found.patch, found.pre) == ("1.4.2-rc.1", 1, 4, 2, "rc.1")


@given(
    st.tuples(*[st.integers(0, 2**31 - 1)] * 3),
    st.lists(st.from_regex(r"[a-zA-Z-][0-9a-zA-Z-]{0,5}", fullmatch=True), max_size=3),
)
def test_every_version_has_an_alias_that_mlflow_takes_and_that_leads_back(
    core: tuple[int, int, int], pre: list[str]
) -> None:
    version = parse(".".join(map(str, core)) + (f"-{'.'.join(pre)}" if pre else ""))
    alias = alias_of(version)
    _validate_model_alias_name(alias)
    assert from_alias(alias) == version


@pytest.mark.parametrize("alias", ["champion", "v1", "v1-2", "1-2-3", "v1-2-3-", "v01-2-3", "v1-2-3-01", "vx-1-2"])
def test_other_aliases_are_no_versions(alias: str) -> None:
    assert from_alias(alias) is None


def test_what_follows_a_version() -> None:
    assert [following(parse("1.4.2"), change).text for change in Change] == ["1.4.3", "1.5.0", "2.0.0"]
    assert following(parse("2.0.0-rc.1"), Change.PATCH).text == "2.0.0"


def mlmodel(inputs: Any = None, outputs: Any = None, params: Any = None) -> bytes:
    signature = {"inputs": inputs, "outputs": outputs, "params": params}
    text = {name: json.dumps(value) for name, value in signature.items() if value is not None}
    return json.dumps({"flavors": {}, **({"signature": text} if text else {})}).encode()


def weights(**shapes: tuple[int, ...]) -> bytes:
    return safetensors({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})


X, Y = {"name": "x", "type": "double", "required": True}, {"name": "y", "type": "long", "required": True}
MODEL = {"MLmodel": mlmodel([X], [Y]), "weights/model.safetensors": weights(a=(4, 4), b=(4,))}

CHANGES = [
    ({}, Change.PATCH, "only weights changed"),
    ({"MLmodel": mlmodel([X, {**Y, "name": "z", "required": False}], [Y])}, Change.MINOR, "another input: z"),
    ({"MLmodel": mlmodel([X], [Y, X])}, Change.MINOR, "another output: x"),
    ({"MLmodel": mlmodel([X], [Y], [{"name": "t", "type": "float", "default": 1.0}])}, Change.MINOR, "parameters are"),
    ({"MLmodel": mlmodel([X, {**Y, "name": "z"}], [Y])}, Change.MAJOR, "the input z has to be given now"),
    ({"MLmodel": mlmodel([{**X, "type": "string"}], [Y])}, Change.MAJOR, "the input x is of another type"),
    ({"MLmodel": mlmodel([Y], [Y])}, Change.MAJOR, "the input x is gone"),
    ({"MLmodel": mlmodel([X], [])}, Change.MAJOR, "the output y is gone"),
    ({"MLmodel": mlmodel()}, Change.MAJOR, "the input x is gone"),
    ({"weights/model.safetensors": weights(a=(4, 4), b=(4,), c=(2,))}, Change.MINOR, "another tensor: c"),
    ({"weights/model.safetensors": weights(a=(4, 5), b=(4,))}, Change.MAJOR, "the tensor a has another shape"),
    ({"weights/model.safetensors": weights(a=(4, 4))}, Change.MAJOR, "the tensor b is gone"),
    (
        {"weights/model.safetensors": safetensors({"a": np.zeros((4, 4), np.float16), "b": np.zeros(4, np.float32)})},
        Change.MINOR,
        "the tensor a is F16 now",
    ),
    (
        {"MLmodel": mlmodel([X], [Y, X]), "weights/model.safetensors": weights(a=(4, 5), b=(4,))},
        Change.MAJOR,
        "the tensor a has another shape",
    ),
]


@pytest.mark.parametrize(("files", "change", "reason"), CHANGES)
def test_the_change_between_two_models(here: Place, files: dict[str, bytes], change: Change, reason: str) -> None:
    before, after = (interface_of(here.log(each).artifact_location) for each in (MODEL, {**MODEL, **files}))
    found = difference(before, after)
    assert found[0] is change
    assert reason in found[1]


def test_a_model_with_tensors_as_inputs_is_compared_by_their_shapes(tmp_path: Path) -> None:
    for name, shape in (("a", [-1, 3]), ("b", [-1, 3]), ("c", [-1, 4])):
        tensor = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": shape}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "MLmodel").write_bytes(mlmodel([tensor]))
    a, b, c = (interface_of(str(tmp_path / name)) for name in "abc")
    assert difference(a, b)[0] is Change.PATCH
    assert difference(a, c)[0] is Change.MAJOR


@pytest.mark.parametrize("text", [b"", b"flavors: {}", b"signature: {inputs: nonsense}", b"signature: null"])
def test_a_model_without_a_readable_signature_has_none(text: bytes) -> None:
    assert not signature_in(text).get("inputs")


def test_the_next_version_is_proposed_from_the_greatest_one_not_the_latest(here: Place) -> None:
    model = here.log(MODEL)
    interface = interface_of(model.artifact_location)
    assert proposed("llama", interface, here.client).version == FIRST
    for number in ("1.0.0", "2.3.0", "1.0.1"):
        here.register("llama", model, {"shardflow.version": number})
    found = proposed("llama", interface, here.client)
    assert (found.version.text, found.change, found.since) == ("2.3.1", Change.PATCH, parse("2.3.0"))
    bigger = interface_of(here.log({**MODEL, **CHANGES[9][0]}).artifact_location)
    assert proposed("llama", bigger, here.client).version.text == "2.4.0"


def test_a_version_is_looked_up_by_its_number_through_mlflow_itself(here: Place) -> None:
    here.register("llama", here.log(MODEL), {"shardflow.version": "1.4.2"})
    assert int(here.client.get_model_version_by_alias("llama", "v1-4-2").version) == 1
    assert find("models:/llama@1.4.2").name == "llama/1"


def test_a_number_that_is_taken_is_refused_by_the_registry(here: Place) -> None:
    here.register("llama", here.log(MODEL), {"shardflow.version": "1.4.2"})
    with pytest.raises(MlflowException, match=r"llama/1 has 1\.4\.2"):
        here.register("llama", here.log(MODEL), {"shardflow.version": "1.4.2"})
