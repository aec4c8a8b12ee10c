"""Imports run one way here too: import-linter sees one source root, and the flavor lies in another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
BELOW = {"store", "codec", "layout", "transport", "errors", "flavor", "__version__"}


def imported(directory: Path) -> Iterator[tuple[str, str]]:
    """The file, and the part of shardflow that it imports."""
    for file in directory.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "shardflow":
                parts = (node.module or "").split(".")[1:2] or [alias.name for alias in node.names]
                yield from ((file.name, part) for part in parts)


def test_the_flavor_stands_on_the_store_and_nothing_above_it() -> None:
    assert [(file, part) for file, part in imported(ROOT / "mlflow_flavor") if part not in BELOW] == []


def test_the_engine_knows_nothing_of_the_flavor() -> None:
    engine = [ROOT / "plugins" / "shardflow" / part for part in ("codec", "layout", "transport", "delta", "store")]
    assert [file for part in engine for file, name in imported(part) if name == "flavor"] == []
