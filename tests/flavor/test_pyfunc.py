"""A logged model answers through mlflow.pyfunc, and a pickled module only for those who trust it."""

from __future__ import annotations

from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from flavor.models import NET, Scaled, TwoInputs, net, same
from shardflow import flavor
from shardflow.flavor.errors import TensorUnusable, TrustRequired
from shardflow.flavor.serving import Predictor

pytestmark = pytest.mark.usefixtures("experiment")


def served(model: Any, **arguments: Any) -> Any:
    return mlflow.pyfunc.load_model(flavor.log_model(model, name="net", **arguments).model_uri)


def test_arrays_go_in_and_come_out() -> None:
    words = np.array([[1, 2, 3]])
    made = served(net(), factory=NET).predict(words)
    assert isinstance(made, np.ndarray)
    assert np.array_equal(made, net()(torch.from_numpy(words)).detach().numpy())


def test_tables_go_in_and_come_out() -> None:
    table = pd.DataFrame(np.ones((2, 8)), index=["left", "right"])
    made = served(Scaled(), factory="flavor.models:Scaled").predict(table)
    assert isinstance(made, pd.DataFrame)
    assert list(made.index) == ["left", "right"]


@pytest.mark.parametrize("answer", [torch.tensor(3.0), torch.ones(3), torch.ones(1, 4)])
def test_what_is_not_a_row_for_each_row_of_a_table_stays_an_array(answer: torch.Tensor) -> None:
    class Pooled(torch.nn.Module):
        def forward(self, _: torch.Tensor) -> torch.Tensor:
            return answer

    made = Predictor(Pooled()).predict(pd.DataFrame(np.ones((2, 8))))
    assert isinstance(made, np.ndarray)
    assert np.array_equal(made, answer.numpy())


def test_a_dict_of_arrays_names_the_arguments() -> None:
    module = TwoInputs()
    left, right = np.ones((1, 4), np.float32), np.zeros((1, 4), np.float32)
    made = served(module, factory="flavor.models:TwoInputs").predict({"left": left, "right": right})
    assert made.keys() == {"sum", "difference"}
    assert np.array_equal(made["sum"], module.linear(torch.from_numpy(left)).detach().numpy())


def test_the_type_and_the_device_are_set_by_the_model_config() -> None:
    uri = flavor.log_model(net(), name="net", factory=NET).model_uri
    model = mlflow.pyfunc.load_model(uri, model_config={"dtype": "bfloat16", "device": "cpu"})
    assert model.get_raw_model().embed.weight.dtype == torch.bfloat16
    assert model.predict(np.array([[1]])).dtype == np.float32


def test_weights_alone_answer_nothing() -> None:
    uri = flavor.log_model(net().state_dict(), name="net").model_uri
    with pytest.raises(mlflow.exceptions.MlflowException, match="python_function"):
        mlflow.pyfunc.load_model(uri)


def test_words_are_no_tensors() -> None:
    with pytest.raises(TensorUnusable, match="pass numbers"):
        Predictor(net()).predict(np.array(["hello"]))


def test_what_a_module_returns_keeps_its_form() -> None:
    class Several(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, Any]]:
            return x, {"twice": 2 * x, "name": "several"}

    first, rest = Predictor(Several()).predict(torch.ones(2))
    assert first.tolist() == [1, 1]
    assert (rest["twice"].tolist(), rest["name"]) == ([2, 2], "several")


def test_a_module_without_a_factory_is_pickled_only_if_it_is_trusted() -> None:
    module = net(tied=True)
    uri = flavor.log_model(module, name="net", trust=True).model_uri
    for load in (lambda: flavor.load_model(uri), lambda: mlflow.pyfunc.load_model(uri)):
        with pytest.raises(TrustRequired, match="trust=True"):
            load()
    loaded = flavor.load_model(uri, trust=True)
    assert same(loaded, module)
    assert loaded.lm_head.weight is loaded.embed.weight
    answer = mlflow.pyfunc.load_model(uri, model_config={"trust": True}).predict(np.array([[5]]))
    assert np.array_equal(answer, module(torch.tensor([[5]])).detach().numpy())


def test_the_pickle_of_a_module_has_none_of_its_weights() -> None:
    from shardflow.flavor.skeleton import pickled_skeleton

    small, large = pickled_skeleton(net(width=8)), pickled_skeleton(net(width=800))
    assert abs(len(small) - len(large)) < 200


def test_parameters_that_are_not_trained_stay_so() -> None:
    module = net()
    module.embed.weight.requires_grad_(False)
    loaded = flavor.load_model(flavor.log_model(module, name="net", trust=True).model_uri, trust=True)
    assert {name for name, each in loaded.named_parameters() if not each.requires_grad} == {"embed.weight"}
