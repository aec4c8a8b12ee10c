"""The ways to save a model and to have it back, each once in a process of its own.

    python benchmarks/flavor/rivals.py PARAMETERS     answers with one line of JSON

What a process prints is of the operation alone: its libraries are imported, the model is in memory and a tiny one has
gone the same way before. On a local disk everything is done once before in full and then timed several times over: the
host of a virtual machine takes free memory back, and is slow to give it again to whoever comes first. Whatever comes
back is compared with what was saved.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import models
import torch
from safetensors.torch import load_file, save_file

from shardflow import flavor

State = Mapping[str, torch.Tensor]
REQUIREMENTS = ["torch"]  # named, or else MLflow finds them out by loading the model once more


@dataclass(frozen=True, slots=True)
class Rival:
    """One way: `save` gives back what `load` wants to know."""

    save: Callable[[Any, Path], str]
    load: Callable[[str], Any]


def _to_file(write: Callable[[dict[str, torch.Tensor], Path], None]) -> Callable[[Any, Path], str]:
    def save(module: Any, directory: Path) -> str:
        path = directory / "weights"
        write(module.state_dict(), path)
        return str(path)

    return save


def _synced(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(state, path)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _by_pytorch(module: Any) -> Any:
    # its other format, pt2, is of a traced graph and wants an example of the input
    return mlflow.pytorch.log_model(module, name="model", pip_requirements=REQUIREMENTS, serialization_format="pickle")


def _by_transformers(module: Any, _: Path) -> str:
    parts = {"model": module, "tokenizer": models.tokenizer()}
    info = mlflow.transformers.log_model(
        parts, name="model", task="text-generation", pip_requirements=[*REQUIREMENTS, "transformers"]
    )
    return str(info.model_uri)


RIVALS = {
    "torch": Rival(_to_file(torch.save), torch.load),
    "torch, forced to the disk": Rival(_to_file(_synced), torch.load),
    # load_file maps the file; a copy is what has it in memory, as the others do
    "safetensors": Rival(
        _to_file(save_file),
        lambda path: {name: tensor.clone() for name, tensor in load_file(path).items()},
    ),
    "mlflow.pytorch": Rival(
        lambda module, _: str(_by_pytorch(module).model_uri),
        mlflow.pytorch.load_model,
    ),
    "mlflow.transformers": Rival(
        _by_transformers,
        lambda uri: mlflow.transformers.load_model(uri, return_type="components", torch_dtype=torch.bfloat16)["model"],
    ),
    "shardflow": Rival(
        lambda module, _: str(flavor.log_model(module, name="model", pip_requirements=REQUIREMENTS).model_uri),
        flavor.load_model,
    ),
}


def main() -> None:
    asked = json.loads(sys.argv[1])
    logging.disable(logging.WARNING)
    mlflow.set_tracking_uri(asked["tracking"])
    rival, directory = RIVALS[asked["rival"]], Path(asked["directory"])
    mlflow.set_experiment(asked["experiments"][0])
    warmed_up(rival, directory / "tiny")
    work = saving if asked["verb"] == "save" else loading
    print(json.dumps(work(rival, asked)))


def warmed_up(rival: Rival, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    rival.load(rival.save(models.tiny_module(), directory))


def saving(rival: Rival, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Once into each experiment; what the last has stays."""
    module = models.module_of(Path(asked["model"]), asked["weights"])
    runs = []
    for experiment, home in zip(asked["experiments"], asked["homes"], strict=True):
        if runs:
            os.sync()
            shutil.rmtree(asked["homes"][len(runs) - 1])
        mlflow.set_experiment(experiment)
        (Path(home) / "files").mkdir(parents=True)
        os.sync()
        runs.append(measured(lambda home=home: rival.save(module, Path(home) / "files")))
    return told(runs)


def loading(rival: Rival, asked: Mapping[str, Any]) -> dict[str, Any]:
    kept: list[Any] = []
    runs = []
    for _ in asked["experiments"]:
        kept.clear()
        runs.append(measured(lambda: kept.append(rival.load(asked["saved"]))))
    loaded = kept.pop()
    state = loaded.state_dict() if isinstance(loaded, torch.nn.Module) else loaded
    wanted = models.state_of(Path(asked["model"]), asked["weights"])
    different = [name for name in wanted if not _same(state[name], wanted[name])]
    if different or len(state) != len(wanted):
        raise SystemExit(f"what came back differs: {different[:3]}")
    return told(runs)


def told(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The median of the runs, the first of which is a warm-up where there are several; it tells the peak of memory."""
    timed = runs[1:] or runs
    middle = {what: statistics.median(run[what] for run in timed) for what in ("seconds", "cpu_seconds")}
    return {**runs[-1], **middle, "peak_bytes": runs[0]["peak_bytes"]}


def measured(work: Callable[[], Any]) -> dict[str, Any]:
    """Seconds, CPU seconds, bytes written to disks, and memory beyond what was there before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, written = status("VmRSS"), _written()
    cpu, began = time.process_time(), time.perf_counter()
    answer = work()
    return {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - cpu,
        "peak_bytes": status("VmHWM") - before,
        "written_bytes": _written() - written,
        "answer": answer,
    }


def _same(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return found.dtype == wanted.dtype and torch.equal(found.view(torch.uint8), wanted.view(torch.uint8))


def status(name: str) -> int:
    (line,) = [text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith(f"{name}:")]
    return int(line.split()[1]) << 10


def _written() -> int:
    (line,) = [text for text in Path("/proc/self/io").read_text().splitlines() if text.startswith("write_bytes:")]
    return int(line.split()[1])


if __name__ == "__main__":
    main()
