"""Weights go to Keras and back by a map of names, and both frameworks give the same answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

os.environ.setdefault("KERAS_BACKEND", "torch")  # before keras is imported

from keras import Input, Model, layers, ops

from shardflow.flavor.formats.errors import CheckpointExists
from shardflow.flavor.frameworks import export_keras, import_keras, keras_state
from shardflow.flavor.frameworks.agreement import Disagreement
from shardflow.flavor.frameworks.errors import ConversionFailed, NotMapped

NAMES = {
    "conv/kernel": "conv.weight",
    "conv/bias": "conv.bias",
    "norm/gamma": "norm.weight",
    "norm/beta": "norm.bias",
    "norm/moving_mean": "norm.running_mean",
    "norm/moving_variance": "norm.running_var",
    "head/kernel": "head.weight",
    "head/bias": "head.bias",
}


class Image(torch.nn.Module):
    """Takes images as Keras does, with their channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4, eps=1e-3)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(torch.relu(self.norm(self.conv(x.permute(0, 3, 1, 2)))).mean((2, 3)))
        return made


def keras_image() -> Any:
    inputs = Input((8, 8, 3))
    hidden = layers.ReLU()(layers.BatchNormalization(name="norm")(layers.Conv2D(4, 3, name="conv")(inputs)))
    return Model(inputs, layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(hidden)))


@pytest.fixture
def module() -> Image:
    torch.manual_seed(5)
    made = Image()
    made(torch.randn(4, 8, 8, 3))  # gives the norm statistics
    return made


@pytest.fixture
def example() -> tuple[torch.Tensor]:
    return (torch.randn(2, 8, 8, 3),)


def test_weights_go_to_keras_and_come_back(module: Image, example: tuple[torch.Tensor], tmp_path: Path) -> None:
    file = tmp_path / "image.weights.h5"
    found = export_keras(module, keras_image(), file, NAMES, example)
    assert found.largest_difference < 1e-5
    back = Image()
    import_keras(file, keras_image(), back, NAMES, example)
    for name in NAMES.values():
        assert torch.equal(back.state_dict()[name], module.state_dict()[name]), name
    assert torch.equal(keras_state(file)["layers/dense/vars/0"], module.head.weight.T)
    with pytest.raises(CheckpointExists, match="exists"):
        export_keras(module, keras_image(), file, NAMES, example)
    export_keras(module, keras_image(), file, NAMES, example, replace=True)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_map_that_leaves_out_or_invents_a_name_is_told(
    module: Image, example: tuple[torch.Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "image.weights.h5"
    short = {path: name for path, name in NAMES.items() if path != "norm/beta"}
    with pytest.raises(NotMapped, match="does not say what norm/beta"):
        export_keras(module, keras_image(), file, short, example)
    with pytest.raises(NotMapped, match="the Keras model has no tail/bias"):
        export_keras(module, keras_image(), file, {**NAMES, "tail/bias": "tail.bias"}, example)
    with pytest.raises(NotMapped, match=r"the module has no tail\.bias"):
        export_keras(module, keras_image(), file, {**NAMES, "head/bias": "tail.bias"}, example)
    with pytest.raises(NotMapped, match=r"conv\.bias is \(4,\) in torch, which does not fit head/bias, \(2,\)"):
        export_keras(module, keras_image(), file, {**NAMES, "head/bias": "conv.bias"}, example)
    with pytest.raises(ConversionFailed, match=r"does not end in \.weights\.h5"):
        export_keras(module, keras_image(), tmp_path / "image.h5", NAMES, example)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras and numpy
def test_models_that_answer_otherwise_are_told_and_left_as_they_were(
    module: Image, example: tuple[torch.Tensor], tmp_path: Path
) -> None:
    swapped = {**NAMES, "norm/gamma": "norm.bias", "norm/beta": "norm.weight"}
    torch.nn.init.normal_(module.norm.bias)
    model = keras_image()
    before = [ops.convert_to_numpy(weight).copy() for weight in model.weights]
    with pytest.raises(Disagreement, match="output 0 differs by"):
        export_keras(module, model, tmp_path / "image.weights.h5", swapped, example)
    assert all(
        np.array_equal(ops.convert_to_numpy(weight), old) for weight, old in zip(model.weights, before, strict=True)
    )
    export_keras(module, model, tmp_path / "image.weights.h5", NAMES, example)
    other = Image()
    kept = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(Disagreement, match="output 0 differs by"):
        import_keras(tmp_path / "image.weights.h5", keras_image(), other, swapped, example)
    assert all(torch.equal(other.state_dict()[name], tensor) for name, tensor in kept.items())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # keras and numpy
@pytest.mark.filterwarnings("ignore:Skipping nested container")
@pytest.mark.parametrize("why", ["disagree", "unmapped", "unfit"])
def test_a_keras_model_whose_import_fails_is_left_as_it_was(
    why: str, module: Image, example: tuple[torch.Tensor], tmp_path: Path
) -> None:
    """With its optimizer, whose state such a file holds too."""
    file, swapped = tmp_path / "image.weights.h5", {**NAMES, "norm/gamma": "norm.bias", "norm/beta": "norm.weight"}
    torch.nn.init.normal_(module.norm.bias)
    export_keras(module, trained(keras_image()), file, NAMES, example)
    if why == "unfit":
        with h5py.File(file, "r+") as stored:
            del stored["layers/dense/vars/0"]
            stored["layers/dense/vars/0"] = np.ones((9, 9), np.float32)
    model = trained(keras_image())
    kept = [*model.weights, *model.optimizer.variables]
    before = [ops.convert_to_numpy(variable).copy() for variable in kept]
    names = {"disagree": swapped, "unmapped": {"conv/kernel": "conv.weight"}, "unfit": NAMES}[why]
    with pytest.raises((Disagreement, NotMapped, ConversionFailed)):
        import_keras(file, model, Image(), names, example)
    assert all(np.array_equal(ops.convert_to_numpy(now), old) for now, old in zip(kept, before, strict=True))


def trained(model: Any) -> Any:
    model.compile("adam", "mse")
    model.train_on_batch(np.random.default_rng(7).random((2, 8, 8, 3)), np.ones((2, 2)))
    return model


def test_a_file_that_is_no_hdf5_or_of_another_model_is_told(
    module: Image, example: tuple[torch.Tensor], tmp_path: Path
) -> None:
    (tmp_path / "bad.weights.h5").write_bytes(b"not hdf5")
    with pytest.raises(ConversionFailed, match="cannot be read as HDF5"):
        keras_state(tmp_path / "bad.weights.h5")
    with pytest.raises(ConversionFailed, match="cannot be read as HDF5"):
        import_keras(tmp_path / "bad.weights.h5", keras_image(), module, NAMES, example)


def outside(file: h5py.File, name: str) -> None:
    """A variable whose values are those of another file of this machine."""
    other = Path(file.filename).with_name("credentials")
    other.write_bytes(b"secret!!")
    file.create_dataset(name, shape=(2,), dtype="f4", external=[(str(other), 0, 8)])


def put_together(file: h5py.File, name: str) -> None:
    other = Path(file.filename).with_name("private.h5")
    with h5py.File(other, "w") as private:
        private["x"] = np.ones(2, "f4")
    layout = h5py.VirtualLayout(shape=(2,), dtype="f4")
    layout[:] = h5py.VirtualSource(str(other), "x", shape=(2,))
    file.create_virtual_dataset(name, layout)


def linked(file: h5py.File, name: str) -> None:
    other = Path(file.filename).with_name("private.h5")
    with h5py.File(other, "w") as private:
        private["x"] = np.ones(2, "f4")
    file[name] = h5py.ExternalLink(str(other), "x")


def swollen(file: h5py.File, name: str) -> None:
    file.create_dataset(name, shape=(1 << 42,), chunks=(1 << 20,), dtype="f4")


def without_values(file: h5py.File, name: str) -> None:
    file[name] = h5py.Empty("f4")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (outside, "has its values in another file"),
        (put_together, "has its values in another file"),
        (linked, "is in another file"),
        (swollen, "says it is 17,592,186,044,416 bytes and has 0"),
        (without_values, "has no values"),
    ],
)
def test_a_file_whose_values_are_not_in_it_is_refused(
    made: Any, why: str, module: Image, example: tuple[torch.Tensor], tmp_path: Path
) -> None:
    source = tmp_path / "image.weights.h5"
    export_keras(module, keras_image(), source, NAMES, example)
    with h5py.File(source, "r+") as file:
        del file["layers/dense/vars/1"]
        made(file, "layers/dense/vars/1")
    for read in (
        lambda: keras_state(source),
        lambda: import_keras(source, keras_image(), Image(), NAMES, example),
    ):
        with pytest.raises(ConversionFailed, match=f"layers/dense/vars/1 {why}"):
            read()


def test_variables_that_were_compressed_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "zeros.weights.h5", "w") as file:
        file.create_dataset("w", data=np.zeros((2000, 2000), "f4"), compression="gzip", compression_opts=9)
        file["nothing"], file["one"] = np.zeros((0, 3), "f4"), np.float32(1)
        file["again"] = h5py.SoftLink("/w")
    found = keras_state(tmp_path / "zeros.weights.h5")
    shapes = {name: tuple(values.shape) for name, values in found.items()}
    assert shapes == {"w": (2000, 2000), "nothing": (0, 3), "one": ()}
