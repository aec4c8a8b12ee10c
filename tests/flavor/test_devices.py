"""Weights go to a device piece by piece, and a module that is on one stays there."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pytest
import torch

from flavor.models import NET, Net, make_net, net, same
from flavor.other_device import NAME, arrived, with_it
from shardflow import flavor
from shardflow.flavor import Rank, formats, reading
from shardflow.store.store import Store


@pytest.fixture
def place(experiment: str) -> str:
    """Where a net is stored in several files."""
    info = flavor.log_model(net(), name="net", factory=NET, max_shard_bytes=100_000)
    return str(mlflow.get_logged_model(info.model_id).artifact_location)


def devices(module: torch.nn.Module) -> set[str]:
    return {tensor.device.type for tensor in module.state_dict().values()}


def same_there(module: torch.nn.Module, other: torch.nn.Module) -> bool:
    return devices(module) == {NAME} and same(_brought(module.state_dict()), _brought(other.state_dict()))


def _brought(state: dict[str, torch.Tensor]) -> Net:
    """A net of the CPU with these weights, of their type."""
    brought = make_net()
    brought.load_state_dict({name: tensor.cpu() for name, tensor in state.items()}, assign=True)
    return brought


def test_a_model_is_loaded_to_a_device(place: str) -> None:
    with_it(load, place)


def load(place: str) -> None:
    assert same_there(flavor.load_model(place, device=NAME), net())
    halves = flavor.load_model(place, device=torch.device(NAME), dtype="bfloat16")
    assert same_there(halves, net().bfloat16())


def test_no_more_than_a_piece_of_a_tensor_is_on_its_way_to_a_device(place: str) -> None:
    with_it(load_pieces, place)


def load_pieces(place: str) -> None:
    reading.PIECE_BYTES = 1000
    state = flavor.load_state_dict(place, device=NAME)
    assert same(_brought(state), net())
    assert sum(arrived) == sum(tensor.nbytes for tensor in net().state_dict().values())
    assert max(arrived) <= 1000


def test_some_tensors_a_slice_and_one_after_the_other_go_to_a_device_as_all_do(place: str) -> None:
    with_it(load_some, place)


def load_some(place: str) -> None:
    whole = net().layers[1].mlp.weight
    slices = {"*.mlp.weight": Rank(1, of=2), "*.back.weight": Rank(1, of=2, dim=1)}
    some = flavor.load_state_dict(place, tensors="layers.1.*.weight", slices=slices, device=NAME, dtype="float64")
    assert {(tensor.device.type, tensor.dtype) for tensor in some.values()} == {(NAME, torch.float64)}
    assert torch.equal(some["layers.1.mlp.weight"].cpu(), whole[64:].double())
    each = dict(flavor.iter_tensors(place, device=NAME))
    assert same(_brought(each), net())


def test_a_module_on_a_device_is_filled_there(place: str) -> None:
    with_it(fill, place)


def fill(place: str) -> None:
    module = net(seed=1).to(NAME)
    assert flavor.load_model(place, into=module) is module
    assert same_there(module, net())
    module = net(seed=1).bfloat16().to(NAME)
    flavor.load_model(place, into=module, order=reversed)
    assert same_there(module, net().bfloat16())


def test_what_is_asked_for_counts_more_than_where_a_module_is(place: str) -> None:
    with_it(fill_elsewhere, place)


def fill_elsewhere(place: str) -> None:
    with torch.device("meta"):
        empty = make_net()
    assert same_there(flavor.load_model(place, into=empty, device=NAME), net())
    back = flavor.load_model(place, into=net(seed=1).to(NAME), device="cpu", dtype="bfloat16")
    assert same(back, net().bfloat16())


def test_a_module_on_two_devices_stays_on_both(place: str) -> None:
    with_it(fill_divided, place)


def fill_divided(place: str) -> None:
    module = net(seed=1)
    module.layers[1].mlp.to(NAME)
    flavor.load_model(place, into=module)
    assert [name for name, tensor in module.state_dict().items() if tensor.device.type == NAME] == [
        "layers.1.mlp.weight",
        "layers.1.mlp.bias",
    ]
    assert same(_brought(module.state_dict()), net())


def test_tied_weights_are_tied_on_a_device(experiment: str) -> None:
    info = flavor.log_model(net(tied=True), name="net", factory=NET, factory_arguments={"tied": True})
    with_it(load_tied, str(mlflow.get_logged_model(info.model_id).artifact_location))


def load_tied(place: str) -> None:
    tied = net(seed=1, tied=True).to(NAME)
    tied.lm_head.weight = tied.embed.weight  # torch itself unties what it moves to a device of another kind
    for module in (flavor.load_model(place, device=NAME), flavor.load_model(place, into=tied)):
        assert isinstance(module, Net)
        assert module.lm_head.weight is module.embed.weight
        assert same_there(module, net(tied=True))


def test_a_model_in_another_format_goes_to_a_device_too(tmp_path: Path) -> None:
    formats.save(net().state_dict(), tmp_path / "net", format="torch")
    with_it(load_another_format, str(tmp_path / "net"))


def load_another_format(place: str) -> None:
    assert same(_brought(flavor.load_state_dict(place, device=NAME)), net())
    assert same_there(flavor.load_model(place, into=net(seed=1).to(NAME)), net())


def test_pyfunc_serves_from_the_device_of_its_configuration(store: Store, place: str, tmp_path: Path) -> None:
    store.get(f"{Store.find(place)[1]}/weights", tmp_path / "weights")
    with_it(serve, str(tmp_path / "weights"))


def serve(place: str) -> None:
    assert devices(flavor._load_pyfunc(place, {"device": NAME}).get_raw_model()) == {NAME}


def test_a_model_is_stored_from_a_device(store: Store) -> None:
    with_it(save, str(store.url))


def save(root: str) -> None:
    formats.save(net().to(NAME).state_dict(), f"{root}/net")
    assert same(_brought(flavor.load_state_dict(f"{root}/net")), net())
