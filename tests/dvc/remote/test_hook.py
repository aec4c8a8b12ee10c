"""How DVC comes to know `shardflow://`: by the hook, by `register`, by the wrapper; and what that costs others."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import shardflow_dvc_hook
from dvc_support.commands import Project
from shardflow.cli.app import commands

KNOWS = "from dvc.config_schema import SCHEMA; print(SCHEMA['remote'][str]({'url': 'shardflow://file/x'})['url'])"
CLASS = "from dvc.fs import get_cloud_fs; print(get_cloud_fs({}, url='shardflow://file/x/y')[0].__name__)"
PATHS = [path for path in sys.path if path]


def python(program: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *options, "-c", program], capture_output=True, text=True, check=False)


def test_the_hook_makes_plain_dvc_know_stores() -> None:
    assert python(f"{KNOWS}; {CLASS}", "-I").stdout.split() == ["shardflow://file/x", "ShardflowFileSystem"]


def test_without_dvc_the_hook_imports_nothing_but_itself() -> None:
    program = (
        "import sys; print([n for n in sys.modules if n.split('.')[0] in ('dvc', 'shardflow', 'fsspec', 'numpy')])"
    )
    assert python(program).stdout.strip() == "[]"


@pytest.mark.parametrize("order", ["before", "after"])
def test_register_does_the_same_where_no_hook_runs(order: str) -> None:
    register = "from shardflow.dvc import register; register(); register()"
    imports = "import dvc.config, dvc.fs, dvc.config_schema; dvc.config.get_compiled_schema()"
    first, second = (register, imports) if order == "before" else (imports, register)
    done = python(f"import sys; sys.path[:] = {PATHS!r}; {first}; {second}; {KNOWS}; {CLASS}", "-S")
    assert done.stdout.split() == ["shardflow://file/x", "ShardflowFileSystem"], done.stderr


def test_the_startup_file_of_later_pythons_names_what_the_hook_of_earlier_ones_does() -> None:
    """Python 3.15 calls what each line of it names, and then passes over the lines of code in the `.pth`."""
    lines = (Path(shardflow_dvc_hook.__file__).with_suffix("").parent / "shardflow_dvc.start").read_text().splitlines()
    named = [line for line in lines if line.strip() and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.]+:\w+", line) for line in named)
    starts = f"import pkgutil, sys; sys.path[:] = {PATHS!r}; [pkgutil.resolve_name(name)() for name in {named!r}]"
    done = python(f"{starts}; {KNOWS}; {CLASS}", "-S")
    assert done.stdout.split() == ["shardflow://file/x", "ShardflowFileSystem"], done.stderr


def test_other_kinds_of_remote_are_checked_as_before() -> None:
    program = "from dvc.config_schema import SCHEMA; print(SCHEMA['remote'][str]({'url': 's3://b/x', 'profile': 'p'}))"
    assert "'profile': 'p'" in python(program).stdout
    refused = python("from dvc.config_schema import SCHEMA; SCHEMA['remote'][str]({'url': 'ftp://b/x'})")
    assert "Unsupported URL type ftp://" in refused.stderr


def test_a_broken_installation_is_told_and_dvc_works_on(tmp_path: Path) -> None:
    (tmp_path / "shardflow").mkdir()
    (tmp_path / "shardflow" / "__init__.py").write_text("raise RuntimeError('half installed')")
    done = subprocess.run(
        [sys.executable, "-c", "import dvc.fs; print('works')"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "works"
    assert "half installed" in done.stderr
    assert "reinstall shardflow-dvc" in done.stderr


def test_the_wrapper_hands_every_command_to_dvc_with_its_exit_code(here: Project) -> None:
    wrapped = (sys.executable, "-m", "shardflow.cli", "dvc")
    (here.root / "a").write_text("a")
    assert here.run(*wrapped, "add", "a").code == 0
    assert here.run(*wrapped, "push", "-q").code == 0
    assert here.run(*wrapped, "push", "--help").out == here.dvc("push", "--help").out
    assert here.run(*wrapped, "no-such-command").code == here.dvc("no-such-command").code != 0


def test_the_wrapper_tells_what_to_install_where_dvc_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shardflow.dvc", None)
    refused = CliRunner().invoke(commands, ["dvc", "push"])
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert "pip install shardflow-dvc" in refused.stderr


def test_what_the_entry_points_name_is_there() -> None:
    program = (
        "from importlib.metadata import entry_points; import fsspec\n"
        "for group in ('dvc.fs', 'fsspec.specs'):\n"
        "    print(*(each.load().__name__ for each in entry_points(group=group, name='shardflow')))\n"
        "print(fsspec.get_filesystem_class('shardflow').__name__)"
    )
    assert python(program).stdout.split() == ["ShardflowFileSystem", "StoreFileSystem", "StoreFileSystem"]
