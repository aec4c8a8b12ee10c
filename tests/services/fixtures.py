"""The pytest side of the servers: fixtures that start them once, and an honest account of what could not run.

    moto, gcs                come with pip, always there
    ceph, azure              from Debian and npm; `make services` installs them
    postgres, mariadb        the same, databases
    browser                  Chromium, a new one for every test; installed as they are
    shared_browser           the same one for all tests of a module, with nothing in it of the test before
    token                    a key in hardware that SoftHSM plays; installed as they are
    small_disk               a disk that gets full; needs user namespaces, which some machines forbid
    object_store             each of the four in turn
    fault_proxy(service)     (the same service seen through a fault proxy, the proxy)
    fresh_url(service)       a function: the URL of an empty place in it

A test that uses a server which is not installed has the `service` marker, of its own or from here, and is skipped; the
end of the run lists what was left out. With CI or SHARDFLOW_REQUIRE_SERVICES set it fails instead: all that is skipped
then is the disk that gets full, where the kernel itself forbids it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pytest

from faults.proxy import FaultProxy
from services import azurite, ceph_rgw, chromium, moto_s3, small_disk, softhsm
from services import mariadb as mariadb_server
from services import postgres as postgresql
from services.chromium import Browser
from services.database import Database
from services.mlflow_server import MlflowServer
from services.process import tail
from services.service import ServerFailed, Service
from services.small_disk import SmallDisk
from services.softhsm import Token

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from types import ModuleType

    from services.mariadb import MariaDb
    from services.postgres import Postgres

INSTALLED_APART: dict[str, ModuleType] = {
    "ceph": ceph_rgw,
    "azure": azurite,
    "postgres": postgresql,
    "mariadb": mariadb_server,
    "chromium": chromium,
    "softhsm": softhsm,
    "small_disk": small_disk,
}
"""The modules that say whether their server is installed, and run it."""

BY_FIXTURE = {name: name for name in INSTALLED_APART} | {
    "browser": "chromium",
    "shared_browser": "chromium",
    "token": "softhsm",
}

DID_NOT_RUN = pytest.StashKey[dict[str, str]]()


class Proxied(NamedTuple):
    """A service whose endpoint is a fault proxy's, and that proxy."""

    service: Service
    proxy: FaultProxy


def fresh_url(service: Service, prefix: str = "some/prefix") -> str:
    """A URL in a bucket that nothing else uses."""
    bucket = f"bucket-{secrets.token_hex(6)}"
    service.make_bucket(bucket)
    return service.url_for(bucket, prefix)


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """S3 as moto plays it: complete, without authentication."""
    with moto_s3.running(tmp_path_factory.mktemp("moto")) as service:
        yield service


@pytest.fixture(scope="session")
def gcs(moto: Service) -> Iterator[Service]:
    """Enough of the XML API of Google Cloud Storage for obstore, in front of moto: a test aid, not the real thing."""
    from services import gcs_emulator  # it brings aiohttp, which only its own tests should wait for

    with gcs_emulator.running(moto) as service:
        yield service


@pytest.fixture(scope="session")
def ceph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A real object store: Ceph's S3 gateway, with authentication, on a cluster of one."""
    yield from _while_it_runs(request.config, "ceph", tmp_path_factory)


@pytest.fixture(scope="session")
def azure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Azure Blob Storage as Microsoft's Azurite plays it."""
    yield from _while_it_runs(request.config, "azure", tmp_path_factory)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """PostgreSQL on loopback; `url` is a database that all tests share, `new_database()` makes one for a test."""
    yield from _while_it_runs(request.config, "postgres", tmp_path_factory)


@pytest.fixture(scope="session")
def mariadb(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """MariaDB on loopback; `new_database()` makes a database for a test."""
    yield from _while_it_runs(request.config, "mariadb", tmp_path_factory)


@pytest.fixture
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium without a window and with an empty profile."""
    yield from _while_it_runs(request.config, "chromium", tmp_path_factory)


@pytest.fixture(scope="module")
def chromium_of_module(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The one that `shared_browser` is."""
    yield from _while_it_runs(request.config, "chromium", tmp_path_factory)


@pytest.fixture
def shared_browser(chromium_of_module: Browser) -> Browser:
    """One Chromium for all tests of a module: it forgets what each did, and need not start for each."""
    chromium_of_module.forget()
    return chromium_of_module


@pytest.fixture(scope="session")
def token(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Token]:
    """A key that can be used and not read."""
    yield from _while_it_runs(request.config, "softhsm", tmp_path_factory)


@pytest.fixture(name="small_disk")
def own_small_disk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    """A disk of a megabyte that can be made larger."""
    yield from _while_it_runs(request.config, "small_disk", tmp_path_factory)


@pytest.fixture(
    params=[
        "moto",
        "gcs",
        pytest.param("ceph", marks=pytest.mark.service("ceph")),
        pytest.param("azure", marks=pytest.mark.service("azure")),
    ]
)
def object_store(request: pytest.FixtureRequest) -> Service:
    """Every object store in turn."""
    service: Service = request.getfixturevalue(request.param)
    return service


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[Service], Proxied]]:
    """Puts a proxy of the test's own before a service."""
    with ExitStack() as proxies:

        def before(service: Service) -> Proxied:
            proxy = proxies.enter_context(FaultProxy(service.host_and_port))
            return Proxied(service.seen_at(proxy.address), proxy)

        yield before


def pytest_configure(config: pytest.Config) -> None:
    config.stash[DID_NOT_RUN] = {}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that use a server by its fixture, so that `-m "not service"` knows them all."""
    for item in items:
        marked = {name for marker in item.iter_markers("service") for name in marker.args}
        wanted = {BY_FIXTURE[name] for name in BY_FIXTURE.keys() & set(getattr(item, "fixturenames", ()))}
        for name in wanted - marked:
            item.add_marker(pytest.mark.service(name))


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("service"):
        _need_installed(item.config, *marker.args)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds the end of the server's log to the report of a test that failed with it."""
    report = yield
    if report.when == "call" and report.failed:
        for service in getattr(item, "funcargs", {}).values():
            if isinstance(service, (Service, MlflowServer, Database)):
                report.sections.append((f"end of {service.log}", tail(service.log)))
            elif isinstance(service, Browser):
                report.sections.append(("the page", f"{service.driver.current_url}: {service.screenshot('failed')}"))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    left_out = config.stash[DID_NOT_RUN]
    if left_out:
        terminalreporter.section("servers")
    for name, reason in left_out.items():
        terminalreporter.line(f"Did not run: {name} ({reason})")


def _while_it_runs(config: pytest.Config, name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    _need_installed(config, name)
    home = tmp_path_factory.mktemp(name)
    with ExitStack() as server:
        server.callback(shutil.rmtree, home / "data", ignore_errors=True)  # the logs beside it stay
        try:
            service = server.enter_context(INSTALLED_APART[name].running(home))
        except ServerFailed as failure:
            _leave_out(config, name, f"failed to start: {failure}")
        yield service


def _need_installed(config: pytest.Config, name: str) -> None:
    if reason := INSTALLED_APART[name].missing():
        _leave_out(config, name, reason)
    if name == "small_disk" and (reason := small_disk.forbidden()):
        _skip(config, name, reason)


def _leave_out(config: pytest.Config, name: str, reason: str) -> NoReturn:
    """A server that comes neither with Python nor with pip is not on this machine, or does not start."""
    if os.environ.get("CI") or os.environ.get("SHARDFLOW_REQUIRE_SERVICES"):
        pytest.fail(f"{name}: {reason}", pytrace=False)
    _skip(config, name, reason)


def _skip(config: pytest.Config, name: str, reason: str) -> NoReturn:
    """The one place that skips."""
    config.stash[DID_NOT_RUN][name] = reason
    pytest.skip(f"{name}: {reason}")
