"""A module is made without memory for its weights only if all that it has comes back with them."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from flavor.models import Net, Scaled
from shardflow import flavor
from shardflow.flavor.errors import NotRebuildable
from shardflow.flavor.making import made_without_weights

HERE = "flavor.test_making"


class Kept(torch.nn.Module):
    """Has a mask in a list, a tuple, a mapping, an object, or in a function; its weights are one linear layer."""

    def __init__(self, where: str = "list") -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        mask = torch.tril(torch.ones(4, 4))
        self.kept: Any = {
            "list": lambda: [mask],
            "tuple": lambda: ((mask,),),
            "mapping": lambda: {"a": mask},
            "object": lambda: SimpleNamespace(mask=mask),
            "function": lambda: lambda: mask,
        }[where]()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self.kept
        if callable(kept):
            return self.linear(x) @ kept()  # type: ignore[no-any-return]
        if isinstance(kept, SimpleNamespace):
            return self.linear(x) @ kept.mask  # type: ignore[no-any-return]
        while not isinstance(kept, torch.Tensor):
            kept = next(iter(kept.values() if isinstance(kept, dict) else kept))
        return self.linear(x) @ kept  # type: ignore[no-any-return]


class Dropping(torch.nn.Module):
    """Looks at values while it is made, as layers with a depth of their own do."""

    def __init__(self) -> None:
        super().__init__()
        # Not `linspace`: once transformers has made a model on the meta device, that one ignores the device.
        self.rates = [rate.item() for rate in torch.arange(3) / 2]
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * self.rates[1]  # type: ignore[no-any-return]


class Normed(torch.nn.Sequential):
    """Parametrized: torch computes with the weights while it is made."""

    def __init__(self) -> None:
        super().__init__(torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(4, 4)))


@pytest.mark.parametrize("make", [Net, lambda: torch.nn.LSTM(4, 4), lambda: torch.nn.TransformerEncoderLayer(8, 2)])
def test_what_comes_back_with_the_weights_needs_no_memory(make: Any) -> None:
    module = made_without_weights(make)
    assert module is not None
    assert all(tensor.is_meta for tensor in module.state_dict().values())


@pytest.mark.parametrize("make", [Scaled, Dropping, *(lambda where=each: Kept(where) for each in ("list", "object"))])
def test_what_has_or_needs_more_than_weights_is_made_for_real(make: Any) -> None:
    assert made_without_weights(make) is None


@pytest.mark.usefixtures("experiment")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("Kept", {"where": each}) for each in ("list", "tuple", "mapping", "object", "function")),
        ("Dropping", {}),
        ("Normed", {}),
    ],
)
def test_a_loaded_module_answers_as_the_one_that_was_logged(name: str, arguments: dict[str, str]) -> None:
    module = globals()[name](**arguments).eval()
    info = flavor.log_model(module, name="model", factory=f"{HERE}:{name}", factory_arguments=arguments)
    example = torch.randn(2, 4)
    assert torch.equal(flavor.load_model(info.model_uri).eval()(example), module(example))


class Bank(torch.nn.Linear):
    """Has as many entries as it was given, and is false without any."""

    made = 0

    def __init__(self) -> None:
        super().__init__(4, 4)
        type(self).made += 1

    def __len__(self) -> int:
        return 0


@pytest.mark.usefixtures("experiment")
def test_an_empty_container_is_a_module_that_was_made() -> None:
    info = flavor.log_model(Bank(), name="model", factory=f"{HERE}:Bank")
    before = Bank.made
    assert isinstance(flavor.load_model(info.model_uri), Bank)
    assert Bank.made == before + 1


@pytest.mark.usefixtures("experiment")
@pytest.mark.parametrize("arguments", [{"wehre": "list"}, {"where": "list", "more": 1}])
def test_arguments_that_a_factory_does_not_take_are_refused_when_a_model_is_logged(arguments: dict[str, Any]) -> None:
    with pytest.raises(NotRebuildable, match=r"Kept cannot be called with .*: got an unexpected keyword argument"):
        flavor.log_model(Kept(), name="model", factory=f"{HERE}:Kept", factory_arguments=arguments)


def test_that_needs_nothing_of_torchs_compiler_which_takes_long_to_import() -> None:
    code = (
        "import sys, torch\nfrom shardflow.flavor.making import made_without_weights\n"
        "assert made_without_weights(lambda: torch.nn.Linear(2, 2)) is not None\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
