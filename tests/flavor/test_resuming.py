"""A log_model that S3 refused halfway, and the same again: the model ends READY, and what arrived is not sent again."""

from __future__ import annotations

from collections.abc import Callable

import mlflow
import pytest
import torch

from faults.rules import Answer, Faults
from services.fixtures import Proxied, fresh_url
from shardflow import flavor
from shardflow.errors import ShardflowError
from shardflow.store.config import Settings
from shardflow.store.sending import MAX_PACKS_IN_MEMORY
from shardflow.store.store import Store

PACK = 128 << 10
TENSORS, ARRIVING = 24, 14


@pytest.fixture(params=["moto", pytest.param("ceph", marks=pytest.mark.service("ceph"))])
def server(
    request: pytest.FixtureRequest, fault_proxy: Callable[..., Proxied], monkeypatch: pytest.MonkeyPatch
) -> Proxied:
    """S3, which can be made to refuse."""
    proxied = fault_proxy(request.getfixturevalue(request.param))
    for name, value in proxied.service.env.items():
        monkeypatch.setenv(name, value)
    return proxied


@pytest.fixture
def store(server: Proxied) -> Store:
    return Store.init(fresh_url(server.service), Settings(pack_bytes=PACK, chunk_bytes=PACK))


@pytest.fixture
def model_id(store: Store, tracking_uri: str) -> str:
    experiment = mlflow.create_experiment(f"at {store.url}", artifact_location=f"{store.url}/artifacts")
    return str(mlflow.MlflowClient().create_logged_model(experiment, name="large").model_id)


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    return {f"layers.{n}.weight": torch.randint(0, 256, (PACK,), dtype=torch.uint8) for n in range(TENSORS)}


def status(model_id: str) -> str:
    return str(mlflow.get_logged_model(model_id).status)


def packs(store: Store) -> dict[str, float]:
    return {info.key: info.modified for info in store.transport.list("packs/")}


def test_a_failed_model_is_finished_by_logging_it_again(server: Proxied, store: Store, model_id: str) -> None:
    server.proxy.faults = Faults(rules=(Answer(method="PUT", path="/packs/", spare=ARRIVING, status=403),))
    with pytest.raises(ShardflowError):
        flavor.log_model(weights(), name="large", model_id=model_id)
    assert status(model_id) == "FAILED"
    arrived = packs(store)
    assert ARRIVING / 2 < len(arrived) <= ARRIVING

    server.proxy.faults = Faults()
    server.proxy.forget_traffic()
    flavor.log_model(weights(), name="large", model_id=model_id)

    assert status(model_id) == "READY"
    everything = packs(store)
    assert {key: everything[key] for key in arrived} == arrived
    size = sum(tensor.nbytes for tensor in weights().values())
    missing = size - len(arrived) * PACK
    assert server.proxy.traffic.sent(method="PUT", path="/packs/") <= missing + MAX_PACKS_IN_MEMORY * PACK
    assert int(mlflow.get_logged_model(model_id).tags["shardflow.bytes_sent"]) <= missing + MAX_PACKS_IN_MEMORY * PACK
    back = flavor.load_state_dict(f"models:/{model_id}")
    assert all(torch.equal(back[name], tensor) for name, tensor in weights().items())
