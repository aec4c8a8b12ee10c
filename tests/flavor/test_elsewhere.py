"""Against any artifact store that is not ours, the flavor writes and reads ordinary files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from flavor.models import NET, net, same
from shardflow import flavor
from shardflow.flavor.errors import NotRebuildable


def test_a_model_is_logged_to_and_loaded_from_an_ordinary_directory(elsewhere: str) -> None:
    module = net()
    info = flavor.log_model(module, name="net", factory=NET, input_example=np.array([[1, 2]]))
    assert same(flavor.load_model(info.model_uri), module)
    assert "shardflow.bytes_sent" not in mlflow.get_logged_model(info.model_id).tags
    assert mlflow.pyfunc.load_model(info.model_uri).predict(np.array([[1, 2]])).shape == (1, 2, 100)


def test_a_saved_model_is_a_directory(tmp_path: Path) -> None:
    flavor.save_model(net(), tmp_path / "saved", factory=NET, sharding="balanced", max_shard_bytes=100_000)
    shards = sorted((tmp_path / "saved" / "weights").glob("*.safetensors"))
    found = {name: tensor for shard in shards for name, tensor in load_file(shard).items()}
    assert all(torch.equal(found[name], tensor) for name, tensor in net().state_dict().items())
    assert same(flavor.load_model(str(tmp_path / "saved")), net())


def test_nothing_is_saved_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(mlflow.exceptions.MlflowException, match="not empty"):
        flavor.save_model(net(), tmp_path, factory=NET)


def test_code_that_came_with_a_model_is_imported_for_those_who_trust_it(
    tmp_path: Path, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "source" / "mine_alone"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import torch\n\n\ndef make(width: int) -> torch.nn.Linear:\n    return torch.nn.Linear(width, width)\n"
    )
    module = torch.nn.Linear(4, 4)
    with monkeypatch.context() as here:
        here.setattr(sys, "path", [str(package.parent), *sys.path])
        uri = flavor.log_model(
            module, name="net", factory="mine_alone:make", factory_arguments={"width": 4}, code_paths=[str(package)]
        ).model_uri
    sys.modules.pop("mine_alone")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(NotRebuildable, match="cannot be imported"):
        flavor.load_model(uri)
    assert same(flavor.load_model(uri, trust=True), module)
    places = list(sys.path)
    assert same(flavor.load_model(uri, trust=True), module)
    assert sys.path == places, "loaded again, it is found where it was"


def test_code_that_was_fetched_goes_with_the_process(tmp_path: Path, experiment: str) -> None:
    code = tmp_path / "mine_for_a_while.py"
    code.write_text("")
    shape = {"in_features": 2, "out_features": 2}
    uri = flavor.log_model(
        torch.nn.Linear(2, 2), name="net", factory="torch.nn:Linear", factory_arguments=shape, code_paths=[str(code)]
    ).model_uri
    place = tmp_path / "temporary"
    place.mkdir()
    script = (
        f"from shardflow import flavor; flavor.load_model({uri!r}, trust=True)\n"
        "import mine_for_a_while as it; print(it.__file__)"
    )
    environment = {**os.environ, "TMPDIR": str(place), "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{place}/shardflow-code-")
    assert not list(place.glob("shardflow-code-*"))


def test_the_environment_of_a_model_names_what_it_needs() -> None:
    names = [requirement.partition("==")[0] for requirement in flavor.get_default_pip_requirements()]
    assert names == ["shardflow", "torch"]
    (pip,) = [each["pip"] for each in flavor.get_default_conda_env()["dependencies"] if isinstance(each, dict)]
    assert {"shardflow", "torch", "mlflow"} <= {requirement.partition("==")[0] for requirement in pip}


def test_importing_the_flavor_loads_neither_torch_nor_mlflow() -> None:
    code = "import sys, shardflow.flavor; assert not {'torch', 'mlflow'} & set(sys.modules)"
    assert os.spawnl(os.P_WAIT, sys.executable, sys.executable, "-c", code) == 0
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = flavor.nothing
