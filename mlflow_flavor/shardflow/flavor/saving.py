"""Saves and logs models as MLflow's own flavors do, the weights straight into a store where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.models.signature import _infer_signature_from_input_example
from mlflow.models.utils import _save_example
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS
from mlflow.tracking._model_registry import DEFAULT_AWAIT_MAX_SLEEP_SECONDS
from mlflow.utils.environment import _validate_env_arguments
from mlflow.utils.model_utils import (
    _copy_extra_files,
    _validate_and_copy_code_paths,
)

from shardflow.flavor import FLAVOR_NAME, environment
from shardflow.flavor.card import CARD_FILE, Description, card_of
from shardflow.flavor.errors import NotRebuildable
from shardflow.flavor.factories import checked_factory
from shardflow.flavor.formats.models import written_as
from shardflow.flavor.formats.registry import DEFAULT, requirements_of
from shardflow.flavor.given import opened_checkpoint, state_of
from shardflow.flavor.lineage import changes_from, changes_told_by_digests, found_parent, note, parent_of
from shardflow.flavor.loading import WEIGHTS
from shardflow.flavor.modes import in_evaluation
from shardflow.flavor.places import is_store_url
from shardflow.flavor.plans import AUTO, MAX_SHARD_BYTES
from shardflow.flavor.recipe import (
    RECIPE_FILE,
    SKELETON_FILE,
    Factory,
    HuggingFace,
    Rebuild,
    Recipe,
    Skeleton,
    encode_recipe,
)
from shardflow.flavor.serving import Predictor
from shardflow.flavor.skeleton import pickled_skeleton
from shardflow.flavor.tensor_digests import write_digests
from shardflow.flavor.transformers_models import beyond_its_config, is_of_transformers
from shardflow.flavor.weights import Sharding, Weights, weights_of
from shardflow.flavor.writing import Written, into_directory, into_store, write_beside


@dataclass(frozen=True, slots=True)
class _Saved:
    weights: Weights
    written: Written
    rebuild: Rebuild | None
    format: str


def save_model(
    model: Any,
    path: str | Path,
    *,
    conda_env: Any = None,
    mlflow_model: Model | None = None,
    code_paths: Sequence[str] | None = None,
    signature: Any = None,
    input_example: Any = None,
    pip_requirements: Any = None,
    extra_pip_requirements: Any = None,
    metadata: Mapping[str, Any] | None = None,
    extra_files: Sequence[str] | None = None,
    factory: str | None = None,
    factory_arguments: Mapping[str, Any] | None = None,
    sharding: str = AUTO,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    base_model: str | None = None,
    trust: bool = False,
    weights_url: str | None = None,
    format: str = DEFAULT,  # noqa: A002  # the word everybody looks for
    validate_serving_input: bool = True,
) -> Model:
    """Save a model as a directory that MLflow understands, its weights as safetensors as Hugging Face lays them out.

    `model` is a torch.nn.Module, a state dict, the directory of a Hugging Face model, the path or `shardflow://` URL of
    a checkpoint in any format of `shardflow.flavor.formats`, or one that is open. A checkpoint is read in pieces, and
    never whole in memory. A module is made again by `factory`, a `package.module:function`, with `factory_arguments`;
    from its config if it is one of transformers; and otherwise from a pickle of all but its weights, if `trust` says
    that whoever loads it may run its code. `weights_url` is where in a store the weights go, instead of below `path`.
    `format` is the checkpoint format of the weights: safetensors, or another of `shardflow.flavor.formats.names()`.
    """
    del validate_serving_input  # for mlflow.models.Model.log, which hands it on
    _validate_env_arguments(conda_env, pip_requirements, extra_pip_requirements)
    directory = Path(path).absolute()
    _require_empty(directory)
    mlflow_model = mlflow_model or Model()
    _describe(mlflow_model, model, directory, signature, input_example, metadata)
    code = _validate_and_copy_code_paths(list(code_paths) if code_paths else None, str(directory))
    inside = directory / WEIGHTS
    with ExitStack() as stack:
        given = opened_checkpoint(model, stack)
        pickled = trust and factory is None
        weights = weights_of(given, Sharding(sharding, max_shard_bytes), stack, trust=trust, pickled=pickled)
        rebuild = _rebuild(model, weights, factory, factory_arguments, inside, trust=trust)
        write_beside(weights if format == DEFAULT else replace(weights, index=None), inside)
        parent = parent_of(base_model, WEIGHTS, weights_url)
        if format == DEFAULT:
            written = _written(weights, inside, weights_url, parent.url if parent else None)
        else:
            written = written_as(format, state_of(given, stack, trust=trust, pickled=pickled), inside, weights_url)
    if parent is None and weights_url is not None and format == DEFAULT:
        parent = found_parent(weights_url, written)
    if weights_url is None and format == DEFAULT and mlflow_model.model_id is not None:
        own = write_digests(inside, [file.name for file in written.files], weights.plan.aliases)
        changes = changes_told_by_digests(parent, own, WEIGHTS)
    else:
        changes = changes_from(parent, weights_url if format == DEFAULT else None)
    saved = _Saved(weights, written, rebuild, format)
    (inside / RECIPE_FILE).write_bytes(encode_recipe(_recipe(saved)))
    card = Description(weights.plan, written, WEIGHTS, _in_words(rebuild), parent, changes, format)
    (directory / CARD_FILE).write_text(card_of(card))
    files = _copy_extra_files(list(extra_files) if extra_files else None, str(directory))
    _add_flavors(mlflow_model, saved, code, files)
    mlflow_model.model_size_bytes = sum(file.size for file in written.files)
    mlflow_model.save(str(directory / MLMODEL_FILE_NAME))
    environment.write_environment(
        directory,
        conda_env,
        pip_requirements,
        _with(extra_pip_requirements, format),
        transformers=isinstance(rebuild, HuggingFace),
    )
    note(mlflow_model, weights.plan, written, parent, changes)
    return mlflow_model


def log_model(
    model: Any,
    artifact_path: str | None = None,
    *,
    conda_env: Any = None,
    code_paths: Sequence[str] | None = None,
    registered_model_name: str | None = None,
    signature: Any = None,
    input_example: Any = None,
    await_registration_for: int = DEFAULT_AWAIT_MAX_SLEEP_SECONDS,
    pip_requirements: Any = None,
    extra_pip_requirements: Any = None,
    metadata: Mapping[str, Any] | None = None,
    extra_files: Sequence[str] | None = None,
    name: str | None = None,
    params: dict[str, Any] | None = None,
    tags: dict[str, Any] | None = None,
    model_type: str | None = None,
    step: int = 0,
    model_id: str | None = None,
    prompts: list[Any] | None = None,
    run_id: str | None = None,
    factory: str | None = None,
    factory_arguments: Mapping[str, Any] | None = None,
    sharding: str = AUTO,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    base_model: str | None = None,
    trust: bool = False,
    format: str = DEFAULT,  # noqa: A002
) -> Any:
    """Log a model to the current run; arguments are those of `save_model` and of MLflow's own flavors.

    Where the artifacts of the model go to a `shardflow://` store, the weights are streamed into it from where they
    are: nothing of them is written to disk. Run again with the `model_id` of a model that was not finished, it sends
    what is missing. `base_model` is the URI of the model that this one was made from.
    """
    return Model.log(
        artifact_path=artifact_path,
        flavor=_WhereItBelongs,
        registered_model_name=registered_model_name,
        await_registration_for=await_registration_for,
        metadata=metadata,
        run_id=run_id,
        prompts=prompts,
        name=name,
        model_type=model_type,
        params=params,
        tags=tags,
        step=step,
        model_id=model_id,
        flavor_name=FLAVOR_NAME,
        model=model,
        conda_env=conda_env,
        code_paths=code_paths,
        signature=signature,
        input_example=input_example,
        pip_requirements=pip_requirements,
        extra_pip_requirements=extra_pip_requirements,
        extra_files=extra_files,
        factory=factory,
        factory_arguments=factory_arguments,
        sharding=sharding,
        max_shard_bytes=max_shard_bytes,
        base_model=base_model,
        trust=trust,
        format=format,
        validate_serving_input=False,  # it would look for the weights on the disk
    )


class _WhereItBelongs:
    """Saves a model while it is being logged, when MLflow has decided where its artifacts are to be."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, **arguments: Any) -> Model:
        location = str(mlflow_model.artifact_path)
        url = f"{location}/{WEIGHTS}" if is_store_url(location) else None
        return save_model(path=path, mlflow_model=mlflow_model, weights_url=url, **arguments)


def _require_empty(directory: Path) -> None:
    if directory.exists() and any(directory.iterdir()):
        raise MlflowException(f"Path '{directory}' already exists and is not empty", RESOURCE_ALREADY_EXISTS)
    directory.mkdir(parents=True, exist_ok=True)


def _written(weights: Weights, inside: Path, weights_url: str | None, base: str | None) -> Written:
    if weights_url is None:
        return into_directory(weights, inside)
    return into_store(weights, weights_url, base)


def _describe(
    mlflow_model: Model, model: Any, directory: Path, signature: Any, input_example: Any, metadata: Any
) -> None:
    example = _save_example(mlflow_model, input_example, str(directory)) if input_example is not None else None
    if signature is None and example is not None and isinstance(model, torch.nn.Module):
        device = next((parameter.device for parameter in model.parameters()), None)
        with in_evaluation(model):
            signature = _infer_signature_from_input_example(example, Predictor(model, device))
    if signature is not None and signature is not False:
        mlflow_model.signature = signature
    if metadata is not None:
        mlflow_model.metadata = dict(metadata)


def _rebuild(
    model: Any,
    weights: Weights,
    factory: str | None,
    arguments: Mapping[str, Any] | None,
    inside: Path,
    *,
    trust: bool,
) -> Rebuild | None:
    if factory is not None:
        return checked_factory(factory, arguments)
    if weights.rebuild is not None or not isinstance(model, torch.nn.Module):
        return weights.rebuild
    if not trust:
        changed = beyond_its_config(model) if is_of_transformers(model) else []
        beyond = f": its config does not tell of {', '.join(changed[:3])}" if changed else ""
        raise NotRebuildable(
            f"nothing says how to make a {type(model).__name__} again{beyond}",
            remedy="pass factory='package.module:function', or trust=True to pickle the module without its weights, "
            "or log model.state_dict()",
        )
    inside.mkdir(parents=True, exist_ok=True)
    (inside / SKELETON_FILE).write_bytes(pickled_skeleton(model))
    return Skeleton()


def _recipe(saved: _Saved) -> Recipe:
    plan = saved.weights.plan
    return Recipe(1, plan.method, saved.written.files, dict(plan.aliases), saved.rebuild, saved.format)


def _with(extra_pip_requirements: Any, format: str) -> Any:  # noqa: A002
    """What the format needs, where the user's own requirements are no file."""
    needed = requirements_of(format)
    if not needed or isinstance(extra_pip_requirements, str):
        return extra_pip_requirements
    return [*(extra_pip_requirements or []), *needed]


def _in_words(rebuild: Rebuild | None) -> str:
    if isinstance(rebuild, Factory):
        return f"`{rebuild.function}`"
    if isinstance(rebuild, HuggingFace):
        return f"config.json, as {rebuild.architecture} of transformers"
    return "a pickled module, for those who trust it" if rebuild else "nothing: weights alone"


def _add_flavors(mlflow_model: Model, saved: _Saved, code: str | None, extra_files: Mapping[str, Any]) -> None:
    mlflow_model.add_flavor(
        FLAVOR_NAME, weights=WEIGHTS, pytorch_version=str(torch.__version__), code=code, **extra_files
    )
    if saved.rebuild is not None:
        mlflow.pyfunc.add_to_model(
            mlflow_model,
            loader_module="shardflow.flavor",
            data=WEIGHTS,
            code=code,
            conda_env=environment.CONDA_ENV,
            python_env=environment.PYTHON_ENV,
            model_config={"device": None, "dtype": None, "trust": False},
        )
