"""The documentation runs: every Python example does what it says, and every command line in it can be parsed."""

from __future__ import annotations

import doctest
import json
import os
import re
import shlex
import struct
from pathlib import Path

import click
import pytest

from shardflow.cli.app import commands
from shardflow.cli.interruption import Interruption
from shardflow.cli.run import Run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    return [(found[1], found[2]) for found in _BLOCK.finditer(page.read_text()) if found[1] in languages]


def command_lines() -> list[str]:
    lines = [line for page in PAGES for _, text in blocks(page, "sh", "console") for line in text.splitlines()]
    found = [line.removeprefix("$ ") for line in lines if line.startswith(("shardflow ", "$ shardflow "))]
    return list(dict.fromkeys(found))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the examples are run: a directory with a checkpoint in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARDFLOW_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("SHARDFLOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text('{"layers": 2}')
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [1024, 1024], "data_offsets": [0, 2 << 20]}}).encode()
    header += b" " * (88 - len(header))
    weights = struct.pack("<Q", len(header)) + header + os.urandom(2 << 20)
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(weights)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_examples_of_a_page_do_what_it_says(page: Path, desk: Path) -> None:
    names: dict[str, object] = {}
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for number, (language, text) in enumerate(blocks(page, "python", "pycon")):
        if language == "python":
            exec(compile(text, f"{page.name}, block {number}", "exec"), names)
        else:
            example = doctest.DocTestParser().get_doctest(text, names, f"{page.name}, block {number}", str(page), 0)
            assert runner.run(example, clear_globs=False).failed == 0
            names = example.globs


@pytest.mark.parametrize("line", command_lines())
def test_a_command_line_of_the_documentation_can_be_typed(line: str) -> None:
    arguments = shlex.split(line.partition(" | ")[0], comments=True)[1:]
    run = Run(Interruption())
    with commands.make_context("shardflow", list(arguments), obj=run) as above:
        name, command, rest = commands.resolve_command(above, arguments)
        assert isinstance(command, click.Command)
        command.make_context(name, rest, parent=above)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_every_variable_of_the_environment_is_documented() -> None:
    sources = (path.read_text() for path in (ROOT / "plugins").rglob("*.py"))
    variables = {name for source in sources for name in re.findall(r"SHARDFLOW_[A-Z]+(?:_[A-Z]+)*", source)}
    documented = (ROOT / "docs" / "store.md").read_text()
    assert [name for name in sorted(variables) if name not in documented] == []
