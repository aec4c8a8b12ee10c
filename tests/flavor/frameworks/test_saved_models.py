"""Weights go to a SavedModel and come back: through TensorFlow where it is installed, or what stands in for it."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from flavor.frameworks import tensorflow_stand_in
from shardflow.flavor.formats.errors import CheckpointExists, FormatUnavailable
from shardflow.flavor.frameworks import export_saved_model, import_saved_model, saved_model_state
from shardflow.flavor.frameworks.agreement import Disagreement
from shardflow.flavor.frameworks.errors import ConversionFailed, NotMapped

NAMES = {"layer/kernel": "layer.weight", "layer/bias": "layer.bias", "scale": "scale"}
BACK = {name: path for path, name in NAMES.items()}


class Net(torch.nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = torch.nn.Linear(4, 4)
        self.scale = torch.nn.Parameter(torch.randn(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layer(x) * self.scale
        return made


@pytest.fixture
def tensorflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    if find_spec("tensorflow") is None:
        monkeypatch.setitem(sys.modules, "tensorflow", tensorflow_stand_in.MODULE)
    import tensorflow

    return tensorflow


@pytest.fixture
def model(tensorflow: Any) -> Any:
    """The same as Net; a square kernel looks no different when it is not turned."""

    class Twin(tensorflow.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tensorflow.Variable(tensorflow.zeros((4, 4)), name="layer/kernel")
            self.bias = tensorflow.Variable(tensorflow.zeros((4,)), name="layer/bias")
            self.scale = tensorflow.Variable(1.0, name="scale")
            self.words = tensorflow.Variable(["a", "b"], name="words", trainable=False)

        @tensorflow.function(input_signature=[tensorflow.TensorSpec([None, 4], tensorflow.float32, name="x")])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return (tensorflow.matmul(x, self.kernel) + self.bias) * self.scale

    return Twin()


@pytest.fixture
def example() -> tuple[torch.Tensor]:
    return (torch.randn(3, 4),)


def test_weights_go_to_a_saved_model_and_come_back(model: Any, example: tuple[torch.Tensor], tmp_path: Path) -> None:
    module, back = Net(1), Net(2)
    names = {**NAMES, "words": "words"}
    with pytest.raises(NotMapped, match="words"):
        export_saved_model(module, model, tmp_path / "model", NAMES, example)
    del model.words, names
    assert export_saved_model(module, model, tmp_path / "model", NAMES, example).largest_difference < 1e-5
    assert import_saved_model(tmp_path / "model", back, example, names=BACK).outputs == 1
    for name, tensor in module.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    with pytest.raises(CheckpointExists):
        export_saved_model(module, model, tmp_path / "model", NAMES, example)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    by_path = {"layer.weight": "kernel", "layer.bias": "bias"}
    import_saved_model(tmp_path / "model", Net(3), example, names=by_path)


def test_variables_are_read_as_they_are_and_texts_are_left_out(tensorflow: Any, model: Any, tmp_path: Path) -> None:
    model.half = tensorflow.Variable(tensorflow.zeros((2,), tensorflow.bfloat16), name="half")
    tensorflow.saved_model.save(model, str(tmp_path / "model"))
    state = saved_model_state(tmp_path / "model")
    assert state.keys() == {"kernel", "bias", "scale", "half"}
    assert state["scale"].shape == ()
    assert state["half"].dtype == torch.bfloat16
    assert state["kernel"].shape == (4, 4)


def test_models_that_answer_otherwise_are_told_and_left_as_they_were(
    model: Any, example: tuple[torch.Tensor], tmp_path: Path
) -> None:
    del model.words
    module = Net(1)
    export_saved_model(module, model, tmp_path / "model", NAMES, example)
    wrong = {**NAMES, "layer/kernel": "layer.wrong"}
    with pytest.raises(NotMapped, match=r"the module has no layer\.wrong"):
        export_saved_model(Net(2), model, tmp_path / "other", wrong, example)
    other = Net(2)
    other.forward = lambda x: x  # type: ignore[method-assign]
    kept = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(Disagreement):
        import_saved_model(tmp_path / "model", other, example, names=BACK)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in other.state_dict().items())
    with pytest.raises(Disagreement):
        export_saved_model(other, model, tmp_path / "other", NAMES, example)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    import_saved_model(tmp_path / "model", Net(4), example, names=BACK)
    assert (model.kernel.numpy() == module.layer.weight.T.detach().numpy()).all()


def test_what_does_not_fit_a_saved_model_is_told(
    model: Any, example: tuple[torch.Tensor], tensorflow: Any, tmp_path: Path
) -> None:
    tensorflow.saved_model.save(model, str(tmp_path / "model"))
    with pytest.raises(ConversionFailed, match="has no signature predict; it has serving_default"):
        import_saved_model(tmp_path / "model", Net(1), example, signature="predict")
    with pytest.raises(ConversionFailed, match=r"takes x, and 2 tensors are given"):
        import_saved_model(tmp_path / "model", Net(1), [*example, *example])
    with pytest.raises(NotMapped, match=r"has no layer\.weight, which the module needs; say in names="):
        import_saved_model(tmp_path / "model", Net(1), example)
    for file in (tmp_path / "model" / "variables").iterdir():
        file.write_bytes(b"")
    with pytest.raises(ConversionFailed, match="cannot be read"):
        saved_model_state(tmp_path / "model")


def test_two_variables_of_one_name_are_told(tensorflow: Any, model: Any, tmp_path: Path) -> None:
    model.again = tensorflow.Variable(1.0, name="scale")
    with pytest.raises(NotMapped, match="two variables are called scale"):
        export_saved_model(Net(1), model, tmp_path / "model", NAMES, [torch.ones(1, 4)])


def test_a_saved_model_without_tensorflow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ConversionFailed, match="no SavedModel"):
        saved_model_state(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(FormatUnavailable, match="tensorflow, which is not installed"):
        saved_model_state(tmp_path)
