"""What is given beside a model is kept as `mlflow.pytorch` keeps it, file for file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from mlflow.models import Model, infer_signature

from flavor.models import NET, net
from shardflow import flavor

CONDA_ENV = {"name": "mine", "channels": ["defaults"], "dependencies": ["python=3.11", {"pip": ["torch", "mlflow"]}]}
EXAMPLES: dict[str, Any] = {
    "array": np.array([[1, 2, 3]]),
    "arrays by name": {"left": np.ones((1, 4)), "right": np.zeros((1, 4))},
    "with parameters": (np.array([[1, 2, 3]]), {"temperature": 0.5}),
}


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "mine" / "inner").mkdir(parents=True)
    (tmp_path / "mine" / "inner" / "layers.py").write_text("WIDTH = 3\n")
    (tmp_path / "mine" / "__init__.py").touch()
    return tmp_path / "mine"


def saved(tmp_path: Path, **given: Any) -> tuple[Path, Path]:
    """A model as this flavor saves it, and as that of MLflow does."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    flavor.save_model(net(), ours, factory=NET, **given)
    mlflow.pytorch.save_model(net(), theirs, serialization_format="pickle", **given)
    return ours, theirs


def below(directory: Path) -> dict[str, bytes]:
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


def test_a_conda_environment_and_its_requirements_are_those_that_were_given(tmp_path: Path) -> None:
    ours, theirs = saved(tmp_path, conda_env=CONDA_ENV)
    for name in ("conda.yaml", "python_env.yaml", "requirements.txt"):
        assert (ours / name).read_text() == (theirs / name).read_text()
    assert yaml.safe_load((ours / "conda.yaml").read_text()) == CONDA_ENV


def test_a_conda_environment_may_be_a_file_and_goes_without_other_requirements(tmp_path: Path) -> None:
    file = tmp_path / "environment.yaml"
    file.write_text(yaml.safe_dump(CONDA_ENV))
    ours, theirs = saved(tmp_path, conda_env=str(file))
    assert (ours / "conda.yaml").read_text() == (theirs / "conda.yaml").read_text()
    with pytest.raises(ValueError, match="Only one of"):
        flavor.save_model(net(), tmp_path / "both", factory=NET, conda_env=CONDA_ENV, pip_requirements=["torch"])


def test_code_files_and_metadata_are_where_they_always_are(tmp_path: Path, code: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("by hand")
    ours, theirs = saved(
        tmp_path, conda_env=CONDA_ENV, code_paths=[str(code)], extra_files=[str(notes)], metadata={"team": {"size": 3}}
    )
    assert below(ours / "code").keys() == {"mine/__init__.py", "mine/inner/layers.py"}
    assert below(ours / "code") == below(theirs / "code")
    assert below(ours / "extra_files") == below(theirs / "extra_files") == {"notes.txt": b"by hand"}
    mine, other = Model.load(ours), Model.load(theirs)
    assert mine.metadata == other.metadata == {"team": {"size": 3}}
    assert mine.flavors["shardflow"]["code"] == other.flavors["pytorch"]["code"] == "code"
    assert mine.flavors["shardflow"]["extra_files"] == other.flavors["pytorch"]["extra_files"]
    shared = ("env", "code", "loader_module", "python_version")
    served, elsewhere = ({name: each.flavors["python_function"][name] for name in shared} for each in (mine, other))
    assert served == elsewhere | {"loader_module": "shardflow.flavor"}


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_an_example_is_saved_in_the_same_files(tmp_path: Path, example: Any) -> None:
    ours, theirs = saved(tmp_path, conda_env=CONDA_ENV, input_example=example, signature=False)
    mine, other = Model.load(ours), Model.load(theirs)
    assert mine.saved_input_example_info == other.saved_input_example_info
    names = {"input_example.json", "serving_input_example.json"} & {file.name for file in theirs.iterdir()}
    assert len(names) == 2
    for name in names:
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_an_example_that_was_logged_is_loaded_with_the_model(experiment: str) -> None:
    example = np.array([[1, 2, 3]])
    info = flavor.log_model(net(), name="net", factory=NET, input_example=example)
    answer = net()(torch.from_numpy(example)).detach().numpy()
    assert info.signature == infer_signature(example, answer)
    model = mlflow.pyfunc.load_model(info.model_uri)
    assert np.array_equal(model.input_example, example)
    assert np.array_equal(model.predict(model.input_example), answer)
