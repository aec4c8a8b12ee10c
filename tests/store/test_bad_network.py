"""Put and get through a network that drops, cuts, loses and alters what it carries: not a bit of it comes out wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save

from delta.models import Model, Values, trained
from faults.rules import Answer, CutRequest, CutResponse, Faults, FlipBit, LoseResponse, Rule, Truncate
from services.fixtures import Proxied, fresh_url
from services.service import Service
from shardflow.codec import CodecId
from shardflow.errors import ShardflowError
from shardflow.store.care.fsck import check
from shardflow.store.config import CONFIG_KEY
from shardflow.store.errors import ChunkDamaged, ManifestDamaged
from shardflow.store.store import Store
from shardflow.transport import RetryPolicy, connect
from store.conftest import SMALL

IMPATIENT = RetryPolicy(attempts=10, base_delay=0.001, max_delay=0.01)
PACKS, MANIFESTS = "^[^?]*/packs/", "^[^?]*/tree/model"  # and no listing of them
BUSY = (429, 500, 503)

Rules = tuple[Rule, ...]

ON_PUT: dict[str, Rules] = {
    "connections are reset": (
        CutRequest(method="PUT", path=PACKS, at=20_000, times=3),
        CutRequest(method="PUT", path=MANIFESTS, at=100, times=2),
    ),
    "answers are lost": (
        LoseResponse(method="PUT", path=PACKS, times=3),
        LoseResponse(method="PUT", path=MANIFESTS, times=2),
        LoseResponse(method="GET", times=3),
    ),
    "bodies break off": (Truncate(method="GET", at=30, times=4),),
    "bodies break off and agree with their heads": (Truncate(method="GET", at=30, relabel=True, times=4),),
    "bits flip": tuple(FlipBit(method="GET", path=path, at=70, times=1) for path in (PACKS, MANIFESTS)),
    "busy servers": tuple(Answer(status=status, times=2) for status in BUSY)
    + tuple(Answer(status=status, method="PUT", times=2) for status in BUSY),
}
ON_GET: dict[str, Rules] = {
    "connections are reset": (CutResponse(method="GET", at=100, times=4),),
    "answers are lost": (LoseResponse(times=4),),
    "bodies break off": (Truncate(method="GET", at=30, times=4),),
    "bodies break off and agree with their heads": (Truncate(method="GET", at=30, relabel=True, times=4),),
    "bits flip": tuple(FlipBit(method="GET", path=path, at=70, times=1) for path in (PACKS, MANIFESTS)),
    "busy servers": tuple(Answer(status=status, times=2) for status in BUSY),
}


@pytest.fixture(
    params=[
        pytest.param("ceph", marks=pytest.mark.service("ceph")),
        pytest.param("azure", marks=pytest.mark.service("azure")),
        "gcs",
    ]
)
def proxied(request: pytest.FixtureRequest, fault_proxy: Callable[[Service], Proxied]) -> Proxied:
    return fault_proxy(request.getfixturevalue(request.param))


@pytest.fixture
def store(proxied: Proxied) -> Store:
    service = proxied.service
    settings = msgspec.structs.replace(SMALL, chunk_bytes=64 << 10, pack_bytes=128 << 10)
    made = Store.init(fresh_url(service), settings, service.options)
    return Store(connect(made.url, service.options, IMPATIENT), made.config)


@pytest.fixture
def first() -> Model:
    """A model that takes several packs; half of it is what the next version is coded against."""
    return {"grown": noise_of(1), "trained": noise_of(2)}


@pytest.fixture
def second(first: Model) -> Model:
    return trained(first, 1e-7) | {"grown": noise_of(3)}


def noise_of(seed: int) -> Values:
    return np.random.default_rng(seed).standard_normal((256, 256)).astype("<f4")


def put(store: Store, content: Model, tmp_path: Path) -> bytes:
    source = tmp_path / "model.safetensors"
    source.write_bytes(save(content))
    store.put(source, "model")
    return source.read_bytes()


@contextmanager
def harm(proxied: Proxied, rules: Rules) -> Iterator[None]:
    """The network is as these rules say; each of them must have harmed as many requests as it was to."""
    proxied.proxy.forget_traffic()
    proxied.proxy.faults = Faults(rules=rules)
    yield
    assert proxied.proxy.traffic.harmed() == {rule: rule.times for rule in rules}
    proxied.proxy.faults = Faults()


@pytest.mark.parametrize("fault", ON_PUT)
def test_what_is_put_is_stored_as_it_is(
    store: Store, proxied: Proxied, first: Model, second: Model, tmp_path: Path, fault: str
) -> None:
    put(store, first, tmp_path)
    before = packs(store)
    with harm(proxied, ON_PUT[fault]):
        content = put(store, second, tmp_path)
    assert store.open("model").read() == content
    assert len(packs(store) - before) >= 3
    assert CodecId.DELTA in store.manifest("model").table.codec  # so bases were read, and read right


@pytest.mark.parametrize("fault", ON_GET)
def test_what_is_stored_is_got_as_it_is(
    store: Store, proxied: Proxied, first: Model, tmp_path: Path, fault: str
) -> None:
    content = put(store, first, tmp_path)
    with harm(proxied, ON_GET[fault]):
        store.get("model", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


@pytest.mark.parametrize(("part", "error"), [(PACKS, ChunkDamaged), (MANIFESTS, ManifestDamaged)])
def test_what_is_never_right_is_no_content(
    store: Store, proxied: Proxied, first: Model, tmp_path: Path, part: str, error: type[ShardflowError]
) -> None:
    put(store, first, tmp_path)
    proxied.proxy.faults = Faults(rules=(FlipBit(method="GET", path=part, at=70),))
    with pytest.raises(error, match="model"):
        store.get("model", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    proxied.proxy.faults = Faults()
    store.get("model", tmp_path / "back")


def test_fsck_finds_no_damage_where_only_the_way_here_did_any(
    store: Store, proxied: Proxied, first: Model, tmp_path: Path
) -> None:
    put(store, first, tmp_path)
    flips = tuple(FlipBit(method="GET", path=path, at=-20, times=1) for path in (PACKS, MANIFESTS))
    with harm(proxied, flips):
        assert check(store).ok


def test_a_store_is_found_though_its_description_arrives_altered(store: Store, proxied: Proxied) -> None:
    with harm(proxied, (FlipBit(method="GET", path=f"some/prefix/{CONFIG_KEY}", at=0, times=1),)):
        assert Store.find(store.url, proxied.service.options)[0].config == store.config


def packs(store: Store) -> set[str]:
    return {info.key for info in store.transport.list("packs/")}
