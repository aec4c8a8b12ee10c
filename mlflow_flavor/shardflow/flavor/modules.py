"""Makes the module that weights belong to, without memory for weights of its own, and gives it the stored ones."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints

import torch

from shardflow.flavor.errors import NotRebuildable, TrustRequired
from shardflow.flavor.recipe import Factory, HuggingFace


def checked_factory(function: str, arguments: Mapping[str, Any] | None) -> Factory:
    """A factory that will be found again, with arguments that survive being stored."""
    try:
        stored = json.loads(json.dumps(dict(arguments or {})))
    except (TypeError, ValueError) as error:
        raise NotRebuildable(f"the arguments of {function} are no JSON: {error}", remedy="pass plain values") from None
    factory = Factory(function, stored)
    imported(factory)
    return factory


def imported(factory: Factory) -> Callable[..., Any]:
    """The function that a factory names."""
    module, _, name = factory.function.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotRebuildable(
            f"the factory {factory.function} cannot be imported: {error}",
            remedy="name it as package.module:function, and give its code with code_paths= or as a requirement",
        ) from None
    if not callable(found):
        raise NotRebuildable(f"{factory.function} cannot be called", remedy="name a function or a class")
    made: Callable[..., Any] = found
    return made


def built(factory: Factory, *, trust: bool = False) -> torch.nn.Module:
    """The module a factory makes; on the meta device if all of it comes back with the weights."""
    make = imported(factory)
    if not trust and not _makes_modules(make):
        raise TrustRequired(
            f"{factory.function} does not say that it makes a torch.nn.Module, and calling it may do anything",
            remedy="pass trust=True if you know who logged the model, or annotate what the function returns",
        )
    with torch.device("meta"):
        module = make(**factory.arguments)
    if not isinstance(module, torch.nn.Module):
        raise NotRebuildable(
            f"{factory.function} makes a {type(module).__name__}, not a torch.nn.Module", remedy="name another factory"
        )
    if any(tensor.is_meta for tensor in _apart_from_state(module)):
        made = make(**factory.arguments)  # it computes something that is not stored
        assert isinstance(made, torch.nn.Module)
        return made
    return module


def _makes_modules(make: Callable[..., Any]) -> bool:
    """Whether a callable is a class of modules, or a function that says it returns one."""
    try:
        made = make if isinstance(make, type) else get_type_hints(make).get("return")
    except (NameError, TypeError):
        return False
    return isinstance(made, type) and issubclass(made, torch.nn.Module)


def assign(module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], *, strict: bool = True) -> torch.nn.Module:
    """Put tensors into a module in place of what it has; parameters that were one stay one."""
    ties = tied_names(module)
    try:
        module.load_state_dict(tensors, strict=strict, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise NotRebuildable(
            f"the weights do not fit the module: {reason}", remedy="rebuild it as it was when it was logged"
        ) from None
    for names in ties:
        given = [name for name in names if name in tensors]
        for name in names if given else ():
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, module.get_parameter(given[0]))
    return module


def tied_names(module: torch.nn.Module) -> list[list[str]]:
    """The names of each parameter that has several."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [found for found in names.values() if len(found) > 1]


def from_transformers(
    recipe: HuggingFace, config_file: bytes, tensors: Mapping[str, torch.Tensor], name: str
) -> torch.nn.Module:
    """The model of transformers that a config describes, with these weights."""
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
    config = made.config_class.from_dict(json.loads(config_file))
    module = made.from_pretrained(None, config=config, state_dict=dict(tensors))
    assert isinstance(module, torch.nn.Module)
    # The config may name another type than the one that is wanted.
    return assign(module, {name: tensors[name] for name in module.state_dict() if name in tensors}, strict=False)


def _apart_from_state(module: torch.nn.Module) -> Iterable[torch.Tensor]:
    """Tensors of a module that its state dict leaves out."""
    saved = module.state_dict(keep_vars=True)
    yield from (buffer for name, buffer in module.named_buffers() if name not in saved)
    for owner in module.modules():
        yield from (value for value in vars(owner).values() if isinstance(value, torch.Tensor))
