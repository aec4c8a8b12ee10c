"""Live MLflow servers whose artifacts are in stores: one whose clients write themselves, one that does it for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from services.mlflow_server import MlflowServer, used

MODES = {"direct": "--default-artifact-root", "proxied": "--artifacts-destination"}


@dataclass(frozen=True, slots=True)
class Live:
    """A server, how its clients reach the store of its artifacts, and where that is."""

    server: MlflowServer
    mode: str
    store: str


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Live]]:
    """Both kinds; they take their time to start, so they take it together."""
    with ExitStack() as running:
        live = {}
        for mode, option in MODES.items():
            home = tmp_path_factory.mktemp(mode)
            store = f"shardflow://file{home}/store"
            live[mode] = Live(MlflowServer(home, option, store), mode, store)
            running.callback(live[mode].server.stop)
        for one in live.values():
            running.enter_context(one.server)
        yield live


@pytest.fixture(params=MODES)
def live(request: pytest.FixtureRequest, servers: dict[str, Live]) -> Iterator[Live]:
    with used(servers[request.param].server):
        yield servers[request.param]


@pytest.fixture
def direct(servers: dict[str, Live]) -> Iterator[Live]:
    with used(servers["direct"].server):
        yield servers["direct"]
