"""What is to be stored for a model, whatever it was given as: files that exist, or shards made of its tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from shardflow.flavor.checkpoints import (
    SafetensorsFile,
    load_all_torch,
    open_safetensors,
    require_own_names,
    state_dict_of,
    weight_files,
)
from shardflow.flavor.contents import Content, TensorContent
from shardflow.flavor.decoding import decoded_freely
from shardflow.flavor.directories import beside
from shardflow.flavor.errors import CheckpointUnusable, TensorUnusable
from shardflow.flavor.formats.contents import contents_of
from shardflow.flavor.formats.state import State
from shardflow.flavor.index import made_index
from shardflow.flavor.modules import tensors_of
from shardflow.flavor.plans import AUTO, MAX_SHARD_BYTES, Plan, Shard, plan
from shardflow.flavor.recipe import CONFIG_FILE, RECIPE_FILE, HuggingFace, Rebuild, decode_recipe
from shardflow.flavor.shards import ShardSource, shard_sources
from shardflow.flavor.tensors import TensorInfo
from shardflow.flavor.torch_types import shapes_of
from shardflow.flavor.transformers_models import GENERATION_FILE, beyond_its_config, is_of_transformers
from shardflow.store.sources import FileSource

AS_IT_WAS = "as it was"
_KNOWN_BY_NAME = "_model.safetensors"  # how names end by which other libraries find a lone file


@dataclass(frozen=True, slots=True)
class Sharding:
    """How the user wants the weights divided."""

    method: str = AUTO
    max_shard_bytes: int = MAX_SHARD_BYTES


@dataclass(frozen=True, slots=True)
class Weights:
    """The files of a model, not written yet."""

    plan: Plan
    sources: tuple[ShardSource | FileSource, ...]
    index: bytes | None
    beside: Mapping[str, Path | bytes] = field(default_factory=dict)  # what a model's directory has but weights
    rebuild: Rebuild | None = None

    def below(self, directory: str) -> list[ShardSource | FileSource]:
        """The files as sources whose paths lie in a directory."""
        prefix = f"{directory}/" if directory else ""
        return [replace(source, path=prefix + source.path) for source in self.sources]


def weights_of(
    model: Any, sharding: Sharding, stack: ExitStack, *, trust: bool = False, pickled: bool = False
) -> Weights:
    """The weights of a module, a state dict, files, a model's directory or an open checkpoint; files stay open with
    the stack. `pickled` says that a module is to be, beside its weights, where nothing else tells how to make it.
    """
    if isinstance(model, torch.nn.Module):
        return _of_module(model, sharding, pickled)
    if isinstance(model, Mapping):
        return _of_tensors(state_dict_of(model, "the model"), sharding)
    if isinstance(model, str | Path):
        return _of_path(Path(model), sharding, stack, trust)
    if isinstance(model, State):
        return _planned(list(model.tensors.values()), contents_of(model), sharding, model.aliases)
    raise CheckpointUnusable(
        f"a {type(model).__name__} cannot be logged as a model",
        remedy="pass a torch.nn.Module, a state dict, or the path or URL of a checkpoint",
    )


def _of_module(module: torch.nn.Module, sharding: Sharding, pickled: bool) -> Weights:
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(tensor):
            raise TensorUnusable(f"{name} has no shape yet", remedy="call the module once, then log it")
    described = is_of_transformers(module) and not beyond_its_config(module)
    weights = _of_tensors(tensors_of(module, pickled=pickled and not described), sharding)
    if not described:
        return weights
    config: Any = module.config
    texts = {CONFIG_FILE: json.loads(config.to_json_string()) | {"architectures": [type(module).__name__]}}
    generation: Any = getattr(module, "generation_config", None)
    if generation is not None:
        texts[GENERATION_FILE] = json.loads(generation.to_json_string())
    written = {name: json.dumps(text, indent=2).encode() for name, text in texts.items()}
    return replace(weights, beside=written, rebuild=HuggingFace(type(module).__name__))


def _of_tensors(tensors: Mapping[str, torch.Tensor], sharding: Sharding) -> Weights:
    contents = {name: TensorContent.of(name, tensor) for name, tensor in tensors.items()}
    return _planned(list(shapes_of(tensors)), contents, sharding)


def _planned(
    tensors: list[TensorInfo],
    contents: Mapping[str, Content],
    sharding: Sharding,
    aliases: Mapping[str, str] | None = None,
) -> Weights:
    if not tensors:
        raise CheckpointUnusable("the model has no tensors in it", remedy="log one that has weights")
    made = plan(tensors, sharding.method, sharding.max_shard_bytes, aliases)
    return Weights(made, tuple(shard_sources(made, contents)), made_index(made) if len(made.shards) > 1 else None)


def _of_path(path: Path, sharding: Sharding, stack: ExitStack, trust: bool) -> Weights:
    files = weight_files(path)
    if all(file.suffix == ".safetensors" for file in files):
        weights = _of_safetensors([open_safetensors(file) for file in files], sharding, stack)
    else:
        weights = _of_tensors(load_all_torch(files, trust=trust), sharding)
    if not path.is_dir():
        return weights
    found = beside(path, files)
    _require_no_other_recipe(found.pop(RECIPE_FILE, None))
    return replace(weights, beside=found, rebuild=_architecture(found.get(CONFIG_FILE)))


def _require_no_other_recipe(file: Path | None) -> None:
    """That a file of the name of ours was written by us, for an earlier model: only then it may be replaced."""
    if file is None:
        return
    try:
        decode_recipe(file.read_bytes(), str(file))
    except CheckpointUnusable:
        raise CheckpointUnusable(
            f"{file} has the name of a file that is written beside the weights", remedy="give it another name"
        ) from None


def _of_safetensors(files: list[SafetensorsFile], sharding: Sharding, stack: ExitStack) -> Weights:
    """Files that are small enough are stored as they are, unless another sharding is asked for."""
    homes: dict[str, Path] = {}
    for file in files:
        require_own_names(file.header.entries, file.source.file, homes)
    shards = [Shard(file.source.path, file.tensors()) for file in files]
    whole = Plan(AS_IT_WAS, tuple(shards), _aliases(files))
    fine = all(len(shard.tensors) <= 1 or shard.size <= sharding.max_shard_bytes for shard in shards)
    if sharding.method == AUTO and fine:
        if len(files) == 1 and not shards[0].file.endswith(_KNOWN_BY_NAME):
            whole = Plan(AS_IT_WAS, (replace(shards[0], file="model.safetensors"),), whole.aliases)
        sources = (replace(file.source, path=shard.file) for file, shard in zip(files, whole.shards, strict=True))
        return Weights(whole, tuple(sources), made_index(whole) if len(files) > 1 else None)
    tensors = [tensor for file in files for tensor in file.tensors()]
    contents = {name: content for file in files for name, content in file.contents(stack)}
    return _planned(tensors, contents, sharding, whole.aliases)


def _aliases(files: list[SafetensorsFile]) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in files:
        names = file.header.entries
        texts = file.header.metadata.items()
        found |= {alias: kept for alias, kept in texts if kept in names and alias not in names}
    return found


def _architecture(config: Path | None) -> HuggingFace | None:
    if config is None:
        return None
    try:
        (name, *_) = decoded_freely(config.read_bytes())["architectures"]
    except (ValueError, KeyError, TypeError):
        return None
    return HuggingFace(name) if isinstance(name, str) else None
