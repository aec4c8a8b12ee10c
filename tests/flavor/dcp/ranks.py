"""What each of several processes does in a test; they meet through a file, so no port is needed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.checkpoint import FileSystemWriter
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module

from flavor.formats.states import differing
from services.warmed import METHOD, warm
from shardflow.flavor.dcp import Reader, Writer

Work = Callable[..., None]


def on_ranks(count: int, work: Work, meeting: Path, *arguments: Any) -> None:
    """Run `work(rank, *arguments)` in so many processes; raises what one of them raised."""
    warm()
    place = str(meeting / f"meet-{os.urandom(4).hex()}")
    mp.start_processes(_begin, (count, work, place, arguments), nprocs=count, start_method=METHOD)


def _begin(rank: int, count: int, work: Work, meeting: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    try:
        work(rank, *arguments)
    finally:
        dist.destroy_process_group()


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 24)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(24, 24) for _ in range(3))
        self.head = torch.nn.Linear(24, 7)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(words)
        for layer in self.layers:
            hidden = torch.relu(layer(hidden))
        made: torch.Tensor = self.head(hidden)
        return made


def sharded() -> tuple[Net, torch.optim.Optimizer]:
    """A model in the hands of FSDP2, and its optimizer."""
    torch.manual_seed(5)
    model = Net()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5)


def sharded_twice() -> tuple[Net, torch.optim.Optimizer]:
    """The same, two layers of it divided among pairs of ranks before FSDP2 divides what each pair member has."""
    torch.manual_seed(5)
    model = Net()
    mesh = init_device_mesh("cpu", (dist.get_world_size() // 2, 2), mesh_dim_names=("data", "tensor"))
    ways: dict[str, ParallelStyle] = {"layers.0": ColwiseParallel(), "layers.1": RowwiseParallel()}
    parallelize_module(model, mesh["tensor"], ways)
    for layer in model.layers:
        fully_shard(layer, mesh=mesh["data"])
    fully_shard(model, mesh=mesh["data"])
    return model, torch.optim.AdamW(model.parameters(), lr=1e-5, foreach=False)


def train(model: Net, optimizer: torch.optim.Optimizer, steps: int) -> None:
    torch.manual_seed(7)
    for _ in range(steps):
        model(torch.randint(0, 50, (4, 5))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def whole(model: Net, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The weights and what the optimizer keeps of each, as if there were one rank; named as a checkpoint has them."""
    weights, moments = get_state_dict(model, optimizer)
    state: dict[str, Any] = {f"model.{name}": each for name, each in weights.items()}
    for name, kinds in moments["state"].items():
        state |= {f"optimizer.state.{name}.{kind}": each for kind, each in kinds.items()}  # type: ignore[union-attr]
    return {name: full(each) for name, each in state.items()}


def save_everything(rank: int, root: str) -> None:
    """What the tests load: two steps of a training, one saved in the background, and tensors in several layouts."""
    model, optimizer = sharded()
    for step in (1, 2):
        train(model, optimizer, 1)
        save_step(model, optimizer, root, step)
        remember(rank, model, optimizer, f"{root}/step-{step}")
    save_in_background(rank, model, optimizer, f"{root}/background")
    if dist.get_world_size() % 2 == 0:
        model, optimizer = sharded_twice()
        train(model, optimizer, 3)
        save_step(model, optimizer, root, 3)
        remember(rank, model, optimizer, f"{root}/step-3")
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    dcp.save(laid_out(mesh, 1.0), storage_writer=Writer(f"{root}/layouts"))


def load_everything(rank: int, root: str) -> None:
    load_step(f"{root}/step-1", 1)
    load_step(f"{root}/step-2", 2)
    load_step(f"{root}/background", 2)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    state = laid_out(mesh, 0.0)
    dcp.load(state, storage_reader=Reader(f"{root}/layouts"))
    for name, expected in laid_out(mesh, 1.0).items():
        assert torch.equal(full(state[name]), full(expected)), name


def full(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def load_divided(rank: int, root: str) -> None:
    """From either division into the other."""
    load_step(f"{root}/step-3", 3)
    load_step(f"{root}/step-1", 1, sharded_twice)
    load_step(f"{root}/step-3", 3, sharded_twice)


def save_with_torch(rank: int, directory: str) -> None:
    """The same state and layouts, as torch alone writes them."""
    model, optimizer = sharded()
    train(model, optimizer, 2)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "epoch": 3, "laid": laid_out(mesh, 1.0)}
    dcp.save(state, storage_writer=FileSystemWriter(directory))
    laid = {f"laid.{name}": full(each) for name, each in laid_out(mesh, 1.0).items()}
    expected = whole(model, optimizer) | laid
    if rank == 0:
        torch.save({name: each.clone() for name, each in expected.items()}, f"{directory}.pt")


def save_step(model: Net, optimizer: torch.optim.Optimizer, root: str, step: int) -> None:
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "epoch": 3}
    dcp.save(state, storage_writer=Writer(f"{root}/step-{step}"))


def save_in_background(rank: int, model: Net, optimizer: torch.optim.Optimizer, url: str) -> None:
    """The state is changed at once after it was handed over."""
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "epoch": 3}
    remember(rank, model, optimizer, url)
    # A group of its own: the thread that saves must not mix its messages with those of the training.
    group = dist.new_group(backend="gloo")
    future = dcp.async_save(state, storage_writer=Writer(url), process_group=group)
    train(model, optimizer, 2)
    future.result()  # type: ignore[union-attr]


def remember(rank: int, model: Net, optimizer: torch.optim.Optimizer, url: str) -> None:
    """Write down what a load has to bring back."""
    expected = whole(model, optimizer)
    if rank == 0:
        file = plain(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save({name: tensor.clone() for name, tensor in expected.items()}, file)


def plain(url: str) -> Path:
    """Beside the store."""
    return Path(url.removeprefix("shardflow://file").replace("/store/", "/plain/", 1))


def load_step(url: str, steps: int, made: Callable[[], tuple[Net, torch.optim.Optimizer]] = sharded) -> None:
    """Into a model that was made anew, on as many ranks as there are now; it can be trained on."""
    model, optimizer = made()
    weights, moments = get_state_dict(model, optimizer)
    state = {"model": weights, "optimizer": moments, "epoch": 0}
    dcp.load(state, storage_reader=Reader(url))
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
    assert state["epoch"] == 3
    expected = torch.load(plain(url), weights_only=True)
    found = whole(model, optimizer)
    assert {name.rpartition(".")[2] for name in found} >= {"exp_avg", "exp_avg_sq", "step"}
    assert differing(found, expected) == []
    done = [float(each["step"]) for each in optimizer.state.values()]
    assert done
    assert set(done) == {steps}
    train(model, optimizer, 1)


def laid_out(mesh: Any, factor: float) -> dict[str, Any]:
    """Tensors in rows, in columns, in both, alike on all ranks, and plain."""
    numbers = torch.arange(60 * 14, dtype=torch.float32).reshape(60, 14) * factor
    count = dist.get_world_size()
    crossed = init_device_mesh("cpu", (count // 2, 2) if count % 2 == 0 else (1, count))
    return {
        "rows": distribute_tensor(numbers, mesh, [Shard(0)]),
        "columns": distribute_tensor(numbers + factor, mesh, [Shard(1)]),
        "both": distribute_tensor(numbers - factor, crossed, [Shard(0), Shard(1)]),
        "columns alike": distribute_tensor(numbers + 5 * factor, crossed, [Replicate(), Shard(1)]),
        "alike": distribute_tensor(numbers + 2 * factor, mesh, [Replicate()]),
        "plain": numbers.to(torch.bfloat16) + 3 * factor,
        "scalar": torch.tensor(4.0) * factor,
    }
