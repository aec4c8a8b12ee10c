"""Calls the factory that makes a module: whichever the caller trusts, and of all others only classes of modules.

A recipe is a text that anybody may have written. So nothing is imported that may have come with the model, no function
is called, and no class of another package is told where something else is.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from shardflow.flavor.errors import NotRebuildable, TrustRequired
from shardflow.flavor.making import made_without_weights
from shardflow.flavor.recipe import Factory

_logger = logging.getLogger("mlflow.shardflow")  # under MLflow's own, whose level and handler the user has set

_IDENTIFIERS = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_NAME = re.compile(f"{_IDENTIFIERS}:{_IDENTIFIERS}")
# No path, no URL, no name that something is imported by, and no program.
_WORD = re.compile(r"[\w+-]{0,80}(\.\d[\w+-]{0,8}){0,4}", re.ASCII)
_LAYERS = "torch.nn.modules."
_REMEDY = (
    "pass trust=True if you know who logged the model (model_config={'trust': True} for pyfunc), "
    "or make the module yourself and pass it as into="
)


def checked_factory(function: str, arguments: Mapping[str, Any] | None) -> Factory:
    """A factory that will be found again, with arguments that survive being stored."""
    try:
        stored = json.loads(json.dumps(dict(arguments or {})))
    except (TypeError, ValueError) as error:
        raise NotRebuildable(f"the arguments of {function} are no JSON: {error}", remedy="pass plain values") from None
    factory = Factory(function, stored)
    make = _imported(factory)
    _require_arguments(make, factory)
    try:
        _require_safe(factory, make)
    except TrustRequired as error:
        _logger.warning("Loading this model will need trust=True: %s", error.message)
    return factory


def built(factory: Factory, *, trust: bool = False, came_to: Sequence[Path] | None = ()) -> torch.nn.Module:
    """The module a factory makes; on the meta device if all of it comes back with the weights.

    `came_to` are the directories that the files of the model are in; None where its code may be imported.
    """
    if not trust and came_to is not None:
        with _importing(factory):
            require_own_home(_checked_name(factory).partition(":")[0], came_to)
    make = _imported(factory)
    if not trust:
        _require_safe(factory, make)
    module = made_without_weights(lambda: _made(make, factory))
    return _made(make, factory) if module is None else module  # an empty container is a module, and false


def _require_arguments(make: Callable[..., Any], factory: Factory) -> None:
    """That it can be called with them, as far as that shows without doing it."""
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):
        return  # of what is not written in Python
    try:
        signature.bind(**factory.arguments)
    except TypeError as error:
        raise NotRebuildable(
            f"{factory.function} cannot be called with {dict(factory.arguments)!r:.100}: {error}",
            remedy="pass what it needs as factory_arguments=",
        ) from None


def _imported(factory: Factory) -> Callable[..., Any]:
    """What a factory names."""
    with _importing(factory):
        module, _, name = _checked_name(factory).partition(":")
        found: Any = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    if not callable(found):
        raise NotRebuildable(f"{factory.function} cannot be called", remedy="name a function or a class")
    made: Callable[..., Any] = found
    return made


@contextmanager
def _importing(factory: Factory) -> Iterator[None]:
    try:
        yield
    except (ImportError, AttributeError, ValueError) as error:
        raise NotRebuildable(
            f"the factory {factory.function} cannot be imported: {error}",
            remedy="name it as package.module:function, and give its code with code_paths= or as a requirement",
        ) from None


def _checked_name(factory: Factory) -> str:
    if not _NAME.fullmatch(factory.function):
        raise ImportError("it is no package.module:function")
    return factory.function


def require_own_home(module: str, came_to: Sequence[Path]) -> None:
    """Refuse code that may have come with the model, before any of it runs; what the caller imported has run already.

    A package is looked at before what is in it, as finding that imports the package.
    """
    if module in sys.modules:
        return
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        name = ".".join(parts[:count])
        spec = find_spec(name)
        if spec is None:
            return  # whoever imports it says so
        why = _why_not(name, spec, [place.resolve() for place in came_to])
        if why:
            raise TrustRequired(f"{name} {why}", remedy=f"import {module} first if it is yours, {_REMEDY}")


def _why_not(name: str, spec: ModuleSpec, came_to: Sequence[Path]) -> str:
    """Why a module is not to be imported without trust; nothing if it may be."""
    if name.rpartition(".")[2] == "__main__":
        return "is a program, which importing it would start"
    inside = spec.submodule_search_locations
    places = [*([spec.origin] if spec.origin and spec.has_location else []), *(inside or [])]
    resolved = [Path(place).resolve() for place in places]
    if any(place.is_relative_to(home) or home.is_relative_to(place) for place in resolved for home in came_to):
        return "came with the model, or has the model in it"
    if inside is not None and spec.origin is None:
        return "is a directory without __init__.py, as anything that was fetched may be"
    return ""


def _require_safe(factory: Factory, make: Callable[..., Any]) -> None:
    """Refuse to call what only those may call who trust it."""
    _require_layers(factory, make)
    _require_words(factory)


def _require_layers(factory: Factory, make: Callable[..., Any]) -> None:
    """Refuse what is no class of modules; of those that torch has some make modules of programs."""
    if not (isinstance(make, type) and issubclass(make, torch.nn.Module)):
        raise TrustRequired(
            f"{factory.function} is no class of modules, and calling it may do anything", remedy=_REMEDY
        )
    if make.__module__.startswith("torch.") and not make.__module__.startswith(_LAYERS):
        raise TrustRequired(
            f"{factory.function} is a {make.__name__}, and of torch's own classes only layers are made", remedy=_REMEDY
        )


def _require_words(factory: Factory) -> None:
    """Refuse texts that a class may take for a file, an address, or something to import or to run."""
    for text in _texts_in(factory.arguments):
        if not _WORD.fullmatch(text) or (text and Path(text).exists()):
            raise TrustRequired(
                f"{factory.function} is to be called with {text!r:.60}, and may open, fetch or run what that names",
                remedy=_REMEDY,
            )


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield key
            yield from _texts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts_in(item)


def _made(make: Callable[..., Any], factory: Factory) -> torch.nn.Module:
    try:
        module = make(**factory.arguments)
    except Exception as error:  # a constructor may raise anything
        reason = " ".join(str(error).split())
        raise NotRebuildable(
            f"{factory.function} cannot be called with {dict(factory.arguments)!r:.100}: {reason}",
            remedy="look at the recipe, and at the version of what it names",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise NotRebuildable(
            f"{factory.function} makes a {type(module).__name__}, not a torch.nn.Module", remedy="name another factory"
        )
    return module
