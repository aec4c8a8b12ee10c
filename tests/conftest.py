"""What holds for every test: nothing of the person who runs them leaks in, and servers start when first asked for."""

from __future__ import annotations

import itertools
import os
import secrets
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING

import hypothesis
import hypothesis.core
import pytest

from services import mlflow_state, settling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest_plugins = ["services.fixtures"]

MANY_IMPORTS = 30
CLOUD_SETTINGS = ("AWS_", "AZURE_", "GOOGLE_", "STORAGE_EMULATOR_")

# The machines that run this are shared: a slow example is not a wrong one.
hypothesis.settings.register_profile(
    "shardflow",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    print_blob=True,
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("shardflow")

# In CI, tests that draw other examples in each run draw them by this; the processes of a run inherit it. Elsewhere
# hypothesis keeps what failed and tries it first, which it does not under a seed that is forced on it.
if "CI" in os.environ:
    os.environ.setdefault("SHARDFLOW_TEST_SEED", str(secrets.randbits(32)))
SEED = os.environ.get("SHARDFLOW_TEST_SEED")
if SEED:
    hypothesis.core.global_force_seed = int(SEED)


def pytest_report_header() -> str | None:
    return f"examples: SHARDFLOW_TEST_SEED={SEED} draws the same ones again" if SEED else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first and small files last: no worker is left alone with a long one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path not in slow, -tests[item.path]))


def pytest_collection_finish() -> None:
    settling.settle()


@pytest.fixture(scope="module", autouse=True)
def imports_settled() -> None:
    """Those of the modules before this one."""
    if len(sys.modules) > settling.modules + MANY_IMPORTS:
        settling.settle()


@pytest.fixture(scope="session", autouse=True)
def nobodys_clouds() -> Iterator[None]:
    """No credentials, profiles or endpoints but those a test sets; also for the commands it starts."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith(CLOUD_SETTINGS)]:
            environment.delenv(name)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_CONFIG_FILE", os.devnull)
        environment.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="session", autouse=True)
def nothing_outlives_the_power() -> Iterator[None]:
    """Stores are not forced to the disk, nor are those of the commands that tests start: the transport's tests are."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SHARDFLOW_FSYNC", "0")
        yield


@pytest.fixture(scope="session", autouse=True)
def loops_compiled_once() -> Iterator[None]:
    """By the first test ever that needs them, and not again by each test that has a home of its own."""
    from shardflow.loops.keeping import VARIABLE, directory

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv(VARIABLE, str(directory()))
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """A run started in the background ignores Ctrl-C, and so would every command that it starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def own_mlflow_of_a_module() -> Iterator[None]:
    """What fixtures of one module tell MLflow is no news to the next module."""
    with mlflow_state.as_it_was():
        yield


@pytest.fixture(autouse=True)
def own_mlflow() -> Iterator[None]:
    """Nor what a test tells it to the next test."""
    with mlflow_state.as_it_was():
        yield


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Directories for the tests of this run; pytest would look through all that there are for each."""
    place = tmp_path_factory.mktemp("homes")
    return (place / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def own_home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Journal and cache of one test never meet those of another, or of the person running it."""
    home = next(homes)
    home.mkdir()
    monkeypatch.setenv("SHARDFLOW_STATE", str(home / "state"))
    monkeypatch.setenv("SHARDFLOW_CACHE", str(home / "cache"))
    monkeypatch.delenv("SHARDFLOW_STORE", raising=False)
