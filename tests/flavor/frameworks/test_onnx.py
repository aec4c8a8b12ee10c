"""Modules go to ONNX and back with the answers they gave, and what ONNX has no words for is named."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch

from flavor.models import make_net, net
from shardflow.flavor.formats.errors import CheckpointExists
from shardflow.flavor.frameworks import export_onnx, import_onnx, onnx_state
from shardflow.flavor.frameworks.agreement import Disagreement
from shardflow.flavor.frameworks.errors import ConversionFailed, NotMapped

TOKENS = (torch.arange(7),)


class Image(torch.nn.Module):
    """Has what an exporter would like to fold together."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.norm = torch.nn.BatchNorm2d(4)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.head(self.drop(torch.relu(self.norm(self.conv(x)))).mean((2, 3)))
        return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("onnx") / "net"
    found = export_onnx(net(), target, TOKENS)
    assert found.outputs == 1
    assert found.largest_difference < 1e-5
    return target


def test_a_module_is_exported_with_its_weights_beside_the_graph(exported: Path) -> None:
    assert {file.name for file in exported.iterdir()} == {"model.onnx", "model.onnx.data"}
    wanted = net().state_dict()
    found = onnx_state(exported)
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_the_weights_come_back_into_a_module(exported: Path) -> None:
    module = make_net()
    for parameter in module.parameters():
        torch.nn.init.zeros_(parameter)
    import_onnx(exported, module, TOKENS)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in net().state_dict().items())


def test_images_keep_their_statistics_and_the_module_its_modes(tmp_path: Path) -> None:
    torch.manual_seed(3)
    module, example = Image(), (torch.randn(2, 3, 8, 8),)
    module(*example)  # gives the norm statistics
    module.norm.eval()  # a layer that is frozen while the others are trained
    export_onnx(module, tmp_path / "image", example)
    assert module.training
    assert not module.norm.training
    back = Image()
    back.norm.eval()
    import_onnx(tmp_path / "image", back, example)
    assert back.training
    assert not back.norm.training
    assert torch.equal(back.norm.running_var, module.norm.running_var)


def test_weights_under_other_names_and_turned_are_found_by_a_map(exported: Path, tmp_path: Path) -> None:
    """As exporters write them that store the kernel of a product as it is multiplied."""
    from onnx import TensorProto, helper, numpy_helper

    linear = torch.nn.Linear(4, 3)
    kernel = numpy_helper.from_array(linear.weight.detach().T.contiguous().numpy(), "MatMul_0_kernel")
    bias = numpy_helper.from_array(linear.bias.detach().numpy(), "add_b")
    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["x", "MatMul_0_kernel"], ["y"]),
        helper.make_node("Add", ["y", "add_b"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes, "g", [value("x", TensorProto.FLOAT, [2, 4])], [value("z", TensorProto.FLOAT, [2, 3])], [kernel, bias]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "other.onnx")
    module, example = torch.nn.Linear(4, 3), (torch.randn(2, 4),)
    with pytest.raises(NotMapped, match="has no weight, which the module needs"):
        import_onnx(tmp_path / "other.onnx", module, example)
    import_onnx(tmp_path / "other.onnx", module, example, names={"weight": "MatMul_0_kernel", "bias": "add_b"})
    assert torch.equal(module.weight, linear.weight)


def test_a_module_that_answers_otherwise_is_told_and_left_as_it_was(exported: Path) -> None:
    class Louder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_net()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.inner(x) * 1.01
            return made

    module = Louder()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    names = {name: name.removeprefix("inner.") for name in before}
    with pytest.raises(Disagreement, match="output 0 differs by"):
        import_onnx(exported, module, TOKENS, names=names)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in before.items())
    import_onnx(exported, module, TOKENS, names=names, tolerance=0.1)


def test_an_operator_that_onnx_has_not_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svd(x)[1]

    with pytest.raises(ConversionFailed, match=r"Odd cannot be exported to ONNX: the operator aten\._linalg_svd"):
        export_onnx(Odd(), tmp_path / "odd", (torch.randn(3, 3),))
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_model_with_an_unknown_operator_is_named(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    ends = [value("x", TensorProto.FLOAT, [1])], [value("y", TensorProto.FLOAT, [1])]
    graph = helper.make_graph([helper.make_node("Frobnicate", ["x"], ["y"], domain="odd")], "g", *ends)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("odd", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "odd.onnx")
    with pytest.raises(ConversionFailed, match=r"cannot be run: the operator .*Frobnicate is not supported"):
        import_onnx(tmp_path / "odd.onnx", torch.nn.Identity(), (torch.ones(1),))


def test_files_that_are_no_onnx_model_are_told(tmp_path: Path, exported: Path) -> None:
    with pytest.raises(ConversionFailed, match="name an ONNX model"):
        onnx_state(tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    with pytest.raises(ConversionFailed, match="no sound ONNX model"):
        onnx_state(tmp_path / "bad.onnx")
    (tmp_path / "model.onnx").write_bytes((exported / "model.onnx").read_bytes())
    with pytest.raises(ConversionFailed, match="no sound ONNX model"):
        onnx_state(tmp_path)  # without its weights
    with pytest.raises(ConversionFailed, match="but the example has 2 inputs"):
        import_onnx(exported, make_net(), (*TOKENS, *TOKENS))


def test_a_target_that_exists_is_refused(exported: Path) -> None:
    with pytest.raises(CheckpointExists, match="net exists"):
        export_onnx(net(), exported, TOKENS)
