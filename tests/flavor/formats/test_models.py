"""Models are logged in every format and come back, whether their artifacts go to a store or to a directory."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import torch

from flavor.formats.states import differing
from flavor.models import NET, make_net, net
from shardflow import flavor
from shardflow.flavor import formats
from shardflow.flavor.errors import NotRebuildable, ShardAltered
from shardflow.flavor.formats.errors import FormatUnavailable

OTHERS = [name for name in formats.names() if name != "safetensors"]


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("place", ["experiment", "elsewhere"])
def test_a_model_logged_in_a_format_is_loaded_as_any_other(
    name: str, place: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(place)
    module = net()
    info = flavor.log_model(module, name="net", factory=NET, format=name)
    back = flavor.load_model(info.model_uri)
    assert isinstance(back, torch.nn.Module)
    assert differing(back.state_dict(), module.state_dict()) == []
    part = flavor.load_model(info.model_uri, tensors="layers.0.*", slices={"*.weight": slice(0, 2)})
    assert isinstance(part, dict)
    assert torch.equal(part["layers.0.mlp.weight"], module.state_dict()["layers.0.mlp.weight"][:2])
    halves = flavor.load_state_dict(info.model_uri, dtype="bfloat16")
    assert {tensor.dtype for tensor in halves.values()} == {torch.bfloat16}


def test_a_checkpoint_in_one_format_is_logged_in_another(tmp_path: Path, experiment: str) -> None:
    torch.save(net().state_dict(), tmp_path / "net.pt")
    info = flavor.log_model(str(tmp_path / "net.pt"), name="net", format="tensorstore-t5x")
    assert differing(flavor.load_state_dict(info.model_uri), net().state_dict()) == []


def test_a_model_in_another_format_is_predicted_with(experiment: str) -> None:
    info = flavor.log_model(net(), name="net", factory=NET, format="tensorstore-fast")
    made = mlflow.pyfunc.load_model(info.model_uri).predict(torch.arange(5).numpy())
    assert torch.allclose(torch.as_tensor(made), net()(torch.arange(5)), atol=1e-6)


def test_files_that_no_model_was_logged_with_are_loaded_by_their_format(tmp_path: Path) -> None:
    formats.save(net().state_dict(), tmp_path / "zarr", format="tensorstore")
    into = make_net()
    flavor.load_model(str(tmp_path / "zarr"), into=into, format="tensorstore")
    assert differing(into.state_dict(), net().state_dict()) == []


def test_a_state_whose_shapes_do_not_fit_the_module_names_the_tensor(tmp_path: Path) -> None:
    state = net().state_dict() | {"layers.1.mlp.weight": torch.zeros(3, 3)}
    formats.save(state, tmp_path / "torch", format="torch")
    with pytest.raises(NotRebuildable, match=r"layers\.1\.mlp\.weight"):
        flavor.load_model(str(tmp_path / "torch"), into=make_net(), format="torch")


def test_a_logged_file_that_was_altered_is_told(elsewhere: str) -> None:
    info = flavor.log_model(net(), name="net", factory=NET, format="torch")
    path = Path(mlflow.artifacts.download_artifacts(info.model_uri)) / "weights" / "model.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ShardAltered, match=r"model\.pt"):
        flavor.load_model(info.model_uri)


def test_a_format_that_does_not_exist_is_refused_before_anything_is_written(experiment: str) -> None:
    with pytest.raises(FormatUnavailable, match="no checkpoint format 'pickle'"):
        flavor.log_model(net(), name="net", factory=NET, format="pickle")
