"""A server that is not installed: skipped and said so on a user's machine, a failure where everything must run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """
import pytest
def test_by_fixture(ceph): pass
@pytest.mark.service("ceph")
def test_by_marker(): pass
def test_by_a_fixture_of_another_name(browser): pass
def test_on_a_disk_that_gets_full(small_disk): pass
def test_of_neither(): pass
"""


def run_suite(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the suite on a machine where no program is installed."""
    (home / "test_suite.py").write_text(SUITE)
    (home / "pytest.ini").write_text("[pytest]\nmarkers = service(name): needs a server\n")
    kept = {name: value for name, value in os.environ.items() if name not in {"CI", "SHARDFLOW_REQUIRE_SERVICES"}}
    env = kept | {"PATH": str(home), "PYTHONPATH": os.pathsep.join(sys.path)} | environment
    argv = [sys.executable, "-m", "pytest", "-p", "services.fixtures", "-q", *arguments, str(home)]
    return subprocess.run(argv, cwd=home, env=env, capture_output=True, text=True, check=False)


def test_a_missing_server_is_skipped_and_listed_at_the_end(tmp_path: Path) -> None:
    done = run_suite(tmp_path)
    assert done.returncode == 0
    assert "1 passed, 4 skipped" in done.stdout
    assert "Did not run: ceph (not installed; 'make services' installs it)" in done.stdout
    assert "Did not run: chromium (not installed (chromium, chromedriver); 'make services' installs it)" in done.stdout


@pytest.mark.parametrize("variable", ["CI", "SHARDFLOW_REQUIRE_SERVICES"])
def test_a_missing_server_fails_where_all_must_run(tmp_path: Path, variable: str) -> None:
    done = run_suite(tmp_path, **{variable: "true"})
    assert done.returncode == 1
    assert "1 passed, 4 errors" in done.stdout
    assert "ceph: not installed" in done.stdout
    assert "small_disk: not installed (unshare, nsenter, mount)" in done.stdout


def test_what_a_kernel_forbids_is_skipped_even_there(tmp_path: Path) -> None:
    for name in ("unshare", "nsenter", "mount"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
        program.chmod(0o755)
    done = run_suite(tmp_path, CI="true")
    assert "1 passed, 1 skipped, 3 errors" in done.stdout
    assert "Did not run: small_disk (not allowed (unshare failed: Operation not permitted))" in done.stdout


def test_tests_with_servers_can_be_left_out_as_one(tmp_path: Path) -> None:
    done = run_suite(tmp_path, "-m", "not service")
    assert "1 passed, 4 deselected" in done.stdout
    assert "Did not run" not in done.stdout
