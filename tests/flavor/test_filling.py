"""Filling a module that is there: in any order, with a rank's parts, and as it is itself where it has memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch

from flavor.models import NET, Net, Scaled, make_net, net, same
from shardflow import flavor
from shardflow.flavor import Rank
from shardflow.flavor.errors import NotRebuildable

pytestmark = pytest.mark.usefixtures("experiment")


def without_memory(**arguments: bool) -> Net:
    with torch.device("meta"):
        return make_net(**arguments)


def test_a_module_without_memory_is_filled_in_the_order_that_is_asked_for(uri: str, module: Net) -> None:
    empty = without_memory()
    filled: list[str] = []

    def back_to_front(layers: Sequence[str]) -> Iterator[str]:
        for layer in reversed(layers):
            filled.append(layer)
            yield layer
            assert not any(tensor.is_meta for tensor in empty.get_submodule(layer).state_dict().values())

    assert flavor.load_model(uri, into=empty, order=back_to_front) is empty
    assert filled == ["lm_head", "layers.2", "layers.1", "layers.0", "embed"]
    assert same(empty, module)


def test_layers_that_nobody_asks_for_stay_empty(uri: str) -> None:
    empty = without_memory()
    flavor.load_model(uri, into=empty, order=lambda _: ["layers.1"])
    assert {name for name, tensor in empty.state_dict().items() if not tensor.is_meta} == {
        name for name in empty.state_dict() if name.startswith("layers.1.")
    }


def test_tied_layers_are_filled_once(experiment: str) -> None:
    uri = flavor.log_model(net(tied=True), name="net", factory=NET, factory_arguments={"tied": True}).model_uri
    empty = without_memory(tied=True)
    flavor.load_model(uri, into=empty, order=reversed)
    assert empty.lm_head.weight is empty.embed.weight
    assert same(empty, net(tied=True))


def test_a_module_that_does_not_fit_is_told_why(uri: str) -> None:
    for other, why in ((Net(width=32), "size mismatch"), (Net(blocks=5), "has no layers.3"), (Scaled(), "has no")):
        with pytest.raises(NotRebuildable, match=why):
            flavor.load_model(uri, into=other)
    with pytest.raises(NotRebuildable, match="pass one as into="):
        flavor.load_model(uri, order=reversed)
    with pytest.raises(NotRebuildable, match="no layer 'decoder'"):
        flavor.load_model(uri, into=make_net(), order=lambda _: ["decoder"])


def test_a_module_is_filled_by_layers_and_not_by_tensors(uri: str, module: Net) -> None:
    with pytest.raises(NotRebuildable, match="name layers by order="):
        flavor.load_model(uri, into=net(seed=1), tensors="layers.0.*")


# Parts, types, and what is there.


def of_a_rank() -> Net:
    """A net whose inner layers are half as wide."""
    part = make_net()
    for layer in part.layers:
        layer.mlp, layer.back = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
    return part


@pytest.mark.parametrize("rank", [0, 1])
def test_the_module_of_a_rank_is_filled_with_its_parts_in_the_order_that_is_asked_for(
    uri: str, module: Net, rank: int
) -> None:
    with torch.device("meta"):
        part = of_a_rank()
    slices = {"*.mlp.*": Rank(rank, of=2), "*.back.weight": Rank(rank, of=2, dim=1)}
    flavor.load_model(uri, into=part, slices=slices, order=reversed, dtype="float64")
    mine = slice(64 * rank, 64 * (rank + 1))
    for layer, whole in zip(part.layers, module.double().layers, strict=True):
        assert torch.equal(layer.mlp.weight, whole.mlp.weight[mine])
        assert torch.equal(layer.mlp.bias, whole.mlp.bias[mine])
        assert torch.equal(layer.back.weight, whole.back.weight[:, mine])
        assert torch.equal(layer.self_attn.weight, whole.self_attn.weight)
    assert torch.equal(part.embed.weight, module.embed.weight)


def test_the_module_of_a_rank_does_not_take_the_whole(uri: str) -> None:
    part = of_a_rank()
    with pytest.raises(NotRebuildable, match="size mismatch"):
        flavor.load_model(uri, into=part)


def test_a_module_with_memory_keeps_its_types_and_one_without_takes_those_that_are_stored(uri: str) -> None:
    mixed = net(seed=1).bfloat16()
    mixed.lm_head.double()
    flavor.load_model(uri, into=mixed)
    wanted = net().bfloat16()
    wanted.lm_head = net().lm_head.double()
    assert same(mixed, wanted)
    assert same(flavor.load_model(uri, into=without_memory().bfloat16()), net())
    assert same(flavor.load_model(uri, into=net(seed=1).bfloat16(), dtype="float16"), net().half())


def test_an_optimizer_trains_the_module_that_was_filled(uri: str) -> None:
    training = net(seed=1)
    training.embed.weight.requires_grad_(False)
    before = dict(training.named_parameters())
    optimizer = torch.optim.SGD(training.parameters(), lr=0.1)
    flavor.load_model(uri, into=training, order=reversed)
    assert same(training, net())
    assert all(parameter is before[name] for name, parameter in training.named_parameters())
    assert not training.embed.weight.requires_grad
    training(torch.tensor([[1, 2]])).sum().backward()
    optimizer.step()
    assert not torch.equal(training.lm_head.weight, net().lm_head.weight)


def test_tied_parameters_that_have_memory_stay_what_they_are(experiment: str) -> None:
    uri = flavor.log_model(net(tied=True), name="net", factory=NET, factory_arguments={"tied": True}).model_uri
    tied = net(seed=1, tied=True)
    weight = tied.embed.weight
    flavor.load_model(uri, into=tied, order=reversed)
    assert tied.embed.weight is tied.lm_head.weight is weight
    assert same(tied, net(tied=True))


class Counted(torch.nn.Linear):
    """Keeps a number in its state dict, beside its tensors."""

    seen = 0

    def get_extra_state(self) -> int:
        return self.seen

    def set_extra_state(self, state: int) -> None:
        self.seen = state


def test_what_a_module_keeps_beside_its_tensors_stays_as_it_is() -> None:
    state = torch.nn.Linear(2, 2).state_dict()
    uri = flavor.log_model(state, name="net").model_uri
    counted = Counted(2, 2)
    counted.seen = 7
    flavor.load_model(uri, into=counted)
    assert torch.equal(counted.weight, state["weight"])
    assert counted.seen == 7
