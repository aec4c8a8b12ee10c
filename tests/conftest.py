"""What holds for every test: nothing of the person who runs them leaks in, and servers start when first asked for."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import hypothesis
import pytest

from services import mlflow_state

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["services.fixtures"]

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


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journal and cache of one test never meet those of another, or of the person running it."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SHARDFLOW_STATE", str(home / "state"))
    monkeypatch.setenv("SHARDFLOW_CACHE", str(home / "cache"))
    monkeypatch.delenv("SHARDFLOW_STORE", raising=False)
