"""What a model needs to be loaded elsewhere: requirements, written as MLflow's own flavors write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from mlflow.utils.environment import (
    _CONDA_ENV_FILE_NAME,
    _CONSTRAINTS_FILE_NAME,
    _PYTHON_ENV_FILE_NAME,
    _REQUIREMENTS_FILE_NAME,
    _mlflow_conda_env,
    _process_conda_env,
    _process_pip_requirements,
    _PythonEnv,
)
from mlflow.utils.requirements_utils import _get_pinned_requirement

from shardflow import __version__

CONDA_ENV, PYTHON_ENV = _CONDA_ENV_FILE_NAME, _PYTHON_ENV_FILE_NAME


def get_default_pip_requirements(*, transformers: bool = False) -> list[str]:
    """What every model of this flavor needs at the least."""
    packages = ["torch", *(["transformers"] if transformers else [])]
    return [f"shardflow=={__version__}", *(_get_pinned_requirement(package) for package in packages)]


def get_default_conda_env() -> dict[str, Any]:
    """The same as a Conda environment."""
    environment: dict[str, Any] = _mlflow_conda_env(additional_pip_deps=get_default_pip_requirements())
    return environment


def write_environment(
    directory: Path,
    conda_env: Any = None,
    pip_requirements: Any = None,
    extra_pip_requirements: Any = None,
    *,
    transformers: bool = False,
) -> None:
    """conda.yaml, python_env.yaml and requirements.txt of a model."""
    if conda_env is None:
        default = get_default_pip_requirements(transformers=transformers) if pip_requirements is None else None
        conda_env, requirements, constraints = _process_pip_requirements(
            default, pip_requirements, extra_pip_requirements
        )
    else:
        conda_env, requirements, constraints = _process_conda_env(conda_env)
    (directory / _CONDA_ENV_FILE_NAME).write_text(yaml.safe_dump(conda_env, default_flow_style=False))
    if constraints:
        (directory / _CONSTRAINTS_FILE_NAME).write_text("\n".join(constraints))
    (directory / _REQUIREMENTS_FILE_NAME).write_text("\n".join(requirements))
    _PythonEnv.current().to_yaml(str(directory / _PYTHON_ENV_FILE_NAME))
