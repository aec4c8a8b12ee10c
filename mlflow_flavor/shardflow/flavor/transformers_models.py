"""The models of transformers: made again from their config, where that says all of it."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Mapping
from typing import Any

import torch

from shardflow.flavor.decoding import decoded_freely
from shardflow.flavor.errors import NotRebuildable
from shardflow.flavor.modules import assign
from shardflow.flavor.recipe import CONFIG_FILE, HuggingFace

GENERATION_FILE = "generation_config.json"
_TOLD = 3  # names in an error


def is_of_transformers(module: torch.nn.Module) -> bool:
    own = type(module).__module__.startswith("transformers.")
    return own and any(base.__name__ == "PreTrainedModel" for base in type(module).__mro__)


def beyond_its_config(module: torch.nn.Module) -> list[str]:
    """The tensors that a model has and its config does not tell of, or that it lacks, or has in another shape."""
    kind: Any = type(module)
    try:
        with torch.device("meta"):
            described = kind(copy.deepcopy(module.config))
    except Exception:  # noqa: BLE001  # a class that cannot be made so shows it when it is loaded
        return []
    shapes = [{name: tensor.shape for name, tensor in each.state_dict().items()} for each in (module, described)]
    return sorted(name for name in shapes[0].keys() | shapes[1].keys() if shapes[0].get(name) != shapes[1].get(name))


def from_transformers(
    recipe: HuggingFace,
    config_file: bytes,
    tensors: Mapping[str, torch.Tensor],
    name: str,
    generation_file: bytes | None = None,
) -> torch.nn.Module:
    """The model of transformers that a config describes, with these weights and its settings for writing texts."""
    try:
        transformers: Any = importlib.import_module("transformers")
    except ImportError:
        raise NotRebuildable(
            f"{name} is a {recipe.architecture} of transformers, which is not installed",
            remedy="pip install transformers, or use load_state_dict",
        ) from None
    model_class: Any = getattr(transformers, recipe.architecture, None)
    if not isinstance(model_class, type) or not issubclass(model_class, torch.nn.Module):
        raise NotRebuildable(
            f"{name} is a {recipe.architecture}, which transformers {transformers.__version__} does not have",
            remedy="install the version it was logged with",
        )
    made: Any = model_class
    try:
        config = made.config_class.from_dict(decoded_freely(config_file))
        module, told = made.from_pretrained(None, config=config, state_dict=dict(tensors), output_loading_info=True)
        if generation_file is not None:
            module.generation_config = transformers.GenerationConfig.from_dict(decoded_freely(generation_file))
    except Exception as error:  # its classes may raise anything
        reason = " ".join(str(error).split())
        raise NotRebuildable(
            f"{name}/{CONFIG_FILE} does not describe a {recipe.architecture}: {reason}",
            remedy="fetch or log the model again",
        ) from error
    assert isinstance(module, torch.nn.Module)
    made_up = sorted({*told["missing_keys"], *(wrong for wrong, *_ in told["mismatched_keys"])})
    if made_up:
        raise NotRebuildable(
            f"{name} has no weights that fit {', '.join(made_up[:_TOLD])} of the {recipe.architecture} that its "
            f"{CONFIG_FILE} describes",
            remedy="use load_state_dict, or load_model(..., into=module) with a module that is as the logged one was",
        )
    # The config may name another type than the one that is wanted.
    return assign(module, {name: tensors[name] for name in module.state_dict() if name in tensors}, strict=False)
