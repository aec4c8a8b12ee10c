"""Loads what was logged: a module, tensors by name, one after the other, or into a module that is there already."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mlflow.environment_variables import MLFLOW_DEFAULT_PREDICTION_DEVICE

from shardflow.flavor.code import add_code
from shardflow.flavor.errors import CheckpointUnusable, NotRebuildable
from shardflow.flavor.factories import built, require_own_home
from shardflow.flavor.filling import Order, fill
from shardflow.flavor.folders import Folder, LocalFolder, StoreFolder
from shardflow.flavor.formats.models import FormatWeights, weights_in
from shardflow.flavor.modules import assign
from shardflow.flavor.places import model_folder
from shardflow.flavor.reading import Wanted
from shardflow.flavor.recipe import CONFIG_FILE, Factory, HuggingFace, Skeleton
from shardflow.flavor.serving import Predictor
from shardflow.flavor.skeleton import load_skeleton
from shardflow.flavor.slicing import Slices
from shardflow.flavor.stored_weights import Patterns, StoredWeights
from shardflow.flavor.transformers_models import GENERATION_FILE, from_transformers

MODEL_FILE = "MLmodel"
WEIGHTS = "weights"
Kind = str | torch.dtype | None
Device = str | torch.device | None


def load_model(
    model_uri: str,
    dst_path: str | None = None,
    *,
    into: torch.nn.Module | None = None,
    tensors: Patterns = None,
    order: Order | None = None,
    slices: Slices | None = None,
    dtype: Kind = None,
    device: Device = None,
    mapped: bool = True,
    trust: bool = False,
    format: str | None = None,  # noqa: A002  # the word everybody looks for
) -> torch.nn.Module | dict[str, torch.Tensor]:
    """The module that was logged, with its weights; or weights alone, by name, where `tensors` or `slices` choose some.

    A store is read straight into the memory of the tensors. `into` is a module to fill instead of making one, on the
    meta device perhaps, layer by layer as `order` asks. `slices` loads a part of each tensor, `dtype` and `device` say
    what they become on the way; a module with memory keeps its own, if they do not. Tensors that a store on this
    machine's disk has as they are become pages of its files, private to who writes to them, unless `mapped=False` asks
    for memory of their own. `trust` allows code that came with the model to run. `dst_path` is a directory that is to
    keep a copy of the files. `format` names the checkpoint format of files that no model was logged with.
    """
    if order is not None and into is None:
        raise NotRebuildable("an order of layers needs a module to fill", remedy="pass one as into=")
    if tensors is not None and into is not None:
        raise NotRebuildable(
            "a module is filled by layers, and not by tensors", remedy="name layers by order=, or leave out into="
        )
    if tensors is not None or (slices is not None and into is None):
        return load_state_dict(
            model_uri,
            dst_path,
            tensors=tensors,
            slices=slices,
            dtype=dtype,
            device=device,
            mapped=mapped,
            format=format,
        )
    wanted = _wanted(dtype, device, mapped=mapped)
    with _opened(model_uri, dst_path, trust=trust, format=format) as weights:
        if into is not None:
            _verify(weights)
            return fill(into, weights, order=order, wanted=wanted, slices=slices)
        return _rebuilt(weights, wanted, _came_to(weights.folder, dst_path), trust=trust)


def load_state_dict(
    model_uri: str,
    dst_path: str | None = None,
    *,
    tensors: Patterns = None,
    slices: Slices | None = None,
    dtype: Kind = None,
    device: Device = None,
    mapped: bool = True,
    format: str | None = None,  # noqa: A002
) -> dict[str, torch.Tensor]:
    """The weights by name, all of them or those whose names fit a pattern such as `model.layers.0.*`."""
    _require_patterns(tensors)
    with _opened(model_uri, dst_path, format=format) as weights:
        if tensors is None and slices is None:
            _verify(weights)
        return weights.read_all(weights.names(tensors), _wanted(dtype, device, mapped=mapped), slices)


def iter_tensors(
    model_uri: str,
    *,
    tensors: Patterns = None,
    slices: Slices | None = None,
    dtype: Kind = None,
    device: Device = None,
    mapped: bool = True,
    format: str | None = None,  # noqa: A002
) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor, one after the other, so that a model larger than the memory can be gone through."""
    _require_patterns(tensors)
    with _opened(model_uri, None, format=format) as weights:
        yield from weights.each(weights.names(tensors), _wanted(dtype, device, mapped=mapped), slices)


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> Predictor:
    """What `mlflow.pyfunc.load_model` calls, with the directory of the weights.

    By then MLflow has imported what `MLmodel` names, with the code that came with the model.
    """
    config = model_config or {}
    device = torch.device(config.get("device") or _default_device())
    with weights_in(LocalFolder(Path(path))) as weights:
        wanted = _wanted(config.get("dtype"), device)
        return Predictor(_rebuilt(weights, wanted, None, trust=bool(config.get("trust"))).to(device), device)


@contextmanager
def _opened(
    model_uri: str,
    dst_path: str | None,
    *,
    trust: bool = False,
    format: str | None = None,  # noqa: A002
) -> Iterator[StoredWeights | FormatWeights]:
    folder = model_folder(str(model_uri), dst_path)
    if MODEL_FILE in folder.names():
        if trust:
            add_code(folder)
        folder = folder.inside(WEIGHTS)
    with weights_in(folder, format) as weights:
        yield weights


def _came_to(folder: Folder, dst_path: str | None) -> list[Path]:
    """The directories that files of the model were put into."""
    found = [] if dst_path is None else [Path(dst_path)]
    if isinstance(folder, LocalFolder):
        above = folder.directory.absolute().parent
        found.append(above if (above / MODEL_FILE).is_file() else folder.directory)
    return found


def _rebuilt(
    weights: StoredWeights | FormatWeights, wanted: Wanted, came_to: Sequence[Path] | None, *, trust: bool
) -> torch.nn.Module:
    rebuild = weights.recipe.rebuild if weights.recipe else None
    name = weights.folder.name
    if rebuild is None:
        raise NotRebuildable(
            f"{name} has weights, and nothing that says which module they belong to",
            remedy="use load_state_dict, or load_model(..., into=module)",
        )
    skeleton = weights.small_file(rebuild.file) if isinstance(rebuild, Skeleton) and trust else b""
    if isinstance(rebuild, Skeleton) and not trust:
        load_skeleton(skeleton, {}, name=name, trust=False)
    if isinstance(rebuild, HuggingFace) and not trust and came_to is not None:
        require_own_home("transformers", came_to)
    module = built(rebuild, trust=trust, came_to=came_to) if isinstance(rebuild, Factory) else None
    _verify(weights)
    tensors = weights.read_all(weights.names(), wanted)
    if isinstance(rebuild, HuggingFace):
        generation = weights.small_file(GENERATION_FILE) if GENERATION_FILE in weights.folder.names() else None
        module = from_transformers(rebuild, weights.small_file(CONFIG_FILE), tensors, name, generation).eval()
    elif isinstance(rebuild, Skeleton):
        module = load_skeleton(skeleton, tensors, name=f"{name}/{rebuild.file}", trust=trust)
    else:
        assert module is not None
        assign(module, tensors)
    return module.to(wanted.device) if wanted.device is not None else module


def _require_patterns(tensors: Any) -> None:
    known = tensors is None or isinstance(tensors, str | Collection)
    if not known or not all(isinstance(pattern, str) for pattern in tensors or ()):
        raise CheckpointUnusable(
            f"tensors={tensors!r:.80} are no names of tensors", remedy="pass a pattern such as 'layers.0.*', or a list"
        )


def _verify(weights: StoredWeights | FormatWeights) -> None:
    if not isinstance(weights.folder, StoreFolder):
        weights.verify()


def _wanted(dtype: Kind, device: Device, *, mapped: bool = True) -> Wanted:
    if isinstance(dtype, str):
        found = getattr(torch, dtype.removeprefix("torch."), None)
        if not isinstance(found, torch.dtype):
            raise NotRebuildable(f"torch has no type called {dtype!r}", remedy="use one such as 'bfloat16'")
        dtype = found
    return Wanted(dtype, torch.device(device) if device is not None else None, mapped)


def _default_device() -> str:
    return str(MLFLOW_DEFAULT_PREDICTION_DEVICE.get() or ("cuda" if torch.cuda.is_available() else "cpu"))
