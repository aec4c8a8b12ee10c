"""What lies in a model's directory beside its weights: what makes it a model, and what is left out of it.

Left out, and told, is what Hugging Face's libraries and their users keep there besides: the same weights in other
formats, and the state of the training that made them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from shardflow.flavor.index import INDEX_FILE
from shardflow.store.config import CONFIG_KEY

TORCH_INDEX_FILE = "pytorch_model.bin.index.json"

_OTHER_FORMATS = (
    *("*.gguf", "*.onnx", "*.onnx_data", "openvino_model*", "rust_model.ot"),
    *("tf_model*.h5", "flax_model*.msgpack", "consolidated*.pth"),
)
# Left from saving in other pieces. Of safetensors beside the weights every reader thinks that they are weights, too.
_OTHER_FILES = ("*.safetensors", "model*.safetensors*", "pytorch_model*.bin*")
_INDEXES = {INDEX_FILE, TORCH_INDEX_FILE}  # which are written anew where they are needed
_OF_TRAINING = ("training_args.bin", "optimizer*.pt", "optimizer*.bin", "scheduler.pt", "scaler.pt", "rng_state*.pth")
_DIRECTORIES_OF_TRAINING = ("checkpoint-*", "global_step*", "runs", "mlruns", "mlartifacts")

_logger = logging.getLogger("mlflow.shardflow")
_TOLD = 8


def is_of_training(file: Path) -> bool:
    """Whether a file has the state of a training, by the names that Hugging Face's Trainer gives."""
    return _matches(file.name, _OF_TRAINING)


def beside(directory: Path, weights: Iterable[Path]) -> dict[str, Path]:
    """Config, tokenizer, parts of their own and whatever else makes the directory a model, by name below it."""
    taken, kept, left = set(weights), dict[str, Path](), list[str]()
    for file in _files_below(directory, left):
        name = file.relative_to(directory).as_posix()
        if file in taken or name in _INDEXES:
            continue
        if _is_left_out(file, at_the_top=file.parent == directory):
            left.append(name)
        else:
            kept[name] = file
    if left:
        more = f" and {len(left) - _TOLD} more" if len(left) > _TOLD else ""
        names = ", ".join(sorted(left)[:_TOLD])
        _logger.warning("Not logged, as weights in another form or the state of a training: %s%s", names, more)
    return kept


def _files_below(directory: Path, left: list[str]) -> Iterator[Path]:
    for found, directories, files in os.walk(directory):
        here = Path(found)
        foreign = [name for name in directories if _matches(name, _DIRECTORIES_OF_TRAINING) or _is_store(here / name)]
        left += [f"{(here / name).relative_to(directory).as_posix()}/" for name in foreign]
        directories[:] = sorted(name for name in directories if name not in foreign and not name.startswith("."))
        yield from (here / name for name in sorted(files) if not name.startswith(".") and (here / name).is_file())


def _is_store(directory: Path) -> bool:
    return (directory / CONFIG_KEY).is_file()


def _is_left_out(file: Path, *, at_the_top: bool) -> bool:
    others = _OTHER_FORMATS + _OTHER_FILES if at_the_top else _OTHER_FORMATS
    return _matches(file.name, others) or is_of_training(file)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
