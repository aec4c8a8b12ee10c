"""A link on which several large objects at once are too slow for the server's patience carries them one by one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from faults.rules import Faults
from services.fixtures import Proxied, fresh_url
from services.service import Service
from shardflow.transport import StoreURL, connect, lanes, objects

SIZE = 1 << 19
LINK = 2e6  # bytes a second: one object takes a quarter of a second, eight beside each other two
PATIENCE = 1  # second for a request


def test_objects_that_crowd_each_other_out_are_sent_again_one_by_one(
    moto: Service, fault_proxy: Callable[[Service], Proxied], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "SPLIT_ABOVE", SIZE // 4)
    monkeypatch.setattr(lanes, "CROWDED", PATIENCE / 2)
    monkeypatch.setattr(lanes, "ROOMY", PATIENCE / 3)
    slow = fault_proxy(moto)
    slow.proxy.faults = Faults(together=LINK)
    transport = connect(StoreURL.parse(fresh_url(slow.service)), {**slow.service.options, "timeout": str(PATIENCE)})
    bodies = {f"packs/{number}": bytes([number]) * SIZE for number in range(8)}
    with ThreadPoolExecutor(len(bodies)) as pool:
        list(pool.map(lambda key: transport.write(key, bodies[key], content_addressed=True), bodies))
    slow.proxy.faults = Faults()
    assert {key: bytes(transport.read(key)) for key in bodies} == bodies
    assert slow.proxy.traffic.sent(method="PUT") <= 3 * len(bodies) * SIZE
