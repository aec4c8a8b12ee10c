"""The Python face of Shardflow: seven functions over URLs, light to import."""

from __future__ import annotations

import inspect
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import shardflow
from shardflow.errors import ShardflowError
from shardflow.store.config import Settings
from shardflow.store.errors import PathMissing, PathTaken, StoreMissing

CONTENT = bytes(range(256)) * 1000
FACE = ("get", "init", "ls", "open", "put", "rm", "stat")


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with a file and a directory in it."""
    url = f"shardflow://file{tmp_path.resolve()}/store"
    shardflow.init(url)
    (tmp_path / "model/inner").mkdir(parents=True)
    (tmp_path / "model/weights.bin").write_bytes(CONTENT)
    (tmp_path / "model/inner/config.json").write_text("{}")
    shardflow.put(tmp_path / "model", f"{url}/models/v1")
    return url


def test_what_is_put_comes_back(url: str, tmp_path: Path) -> None:
    report = shardflow.get(f"{url}/models/v1", tmp_path / "back")
    assert (tmp_path / "back/weights.bin").read_bytes() == CONTENT
    assert (tmp_path / "back/inner/config.json").read_text() == "{}"
    assert (report.files_done, report.bytes_done) == (2, len(CONTENT) + 2)


def test_a_single_file_comes_back_under_any_name(url: str, tmp_path: Path) -> None:
    shardflow.get(f"{url}/models/v1/weights.bin", str(tmp_path / "renamed"))
    assert (tmp_path / "renamed").read_bytes() == CONTENT


def test_a_plain_path_stands_for_its_url(url: str, tmp_path: Path) -> None:
    assert shardflow.stat(str(tmp_path / "store/models/v1")) == shardflow.stat(f"{url}/models/v1")


def test_a_stream_can_be_put(url: str) -> None:
    report = shardflow.put(io.BytesIO(CONTENT), f"{url}/streamed.bin")
    assert report.bytes_done == len(CONTENT)
    with shardflow.open(f"{url}/streamed.bin") as file:
        assert file.read() == CONTENT


def test_a_file_is_read_where_it_is(url: str) -> None:
    with shardflow.open(f"{url}/models/v1/weights.bin") as file:
        file.seek(-10, io.SEEK_END)
        assert file.read() == CONTENT[-10:]
        assert file.read_at(300, 5) == CONTENT[300:305]


def test_names_are_listed_with_their_sizes(url: str) -> None:
    assert [(entry.path, entry.kind, entry.size) for entry in shardflow.ls(f"{url}/models/v1")] == [
        ("models/v1/inner", "directory", None),
        ("models/v1/weights.bin", "file", len(CONTENT)),
    ]
    assert [entry.path for entry in shardflow.ls(url, recursive=True)] == [
        "models/v1/inner/config.json",
        "models/v1/weights.bin",
    ]


def test_figures_are_told_of_files_and_directories(url: str) -> None:
    assert shardflow.stat(f"{url}/models/v1/weights.bin").size == len(CONTENT)
    whole = shardflow.stat(url)
    assert (whole.kind, whole.files, whole.size) == ("directory", 2, len(CONTENT) + 2)


def test_names_are_removed(url: str) -> None:
    assert shardflow.rm(f"{url}/models/v1/weights.bin") == 1
    with pytest.raises(PathTaken, match="--recursive"):
        shardflow.rm(f"{url}/models")
    assert shardflow.rm(f"{url}/models", recursive=True) == 1
    assert shardflow.ls(url) == []


def test_a_file_is_replaced_unless_that_is_refused(url: str) -> None:
    with pytest.raises(PathTaken, match=r"models/v1/weights.bin is stored already, with other content"):
        shardflow.put(io.BytesIO(b"new"), f"{url}/models/v1/weights.bin", replace=False)
    shardflow.put(io.BytesIO(b"new"), f"{url}/models/v1/weights.bin")
    with shardflow.open(f"{url}/models/v1/weights.bin") as file:
        assert file.read() == b"new"


def test_a_new_store_is_returned_open(tmp_path: Path) -> None:
    store = shardflow.init(str(tmp_path / "other"), Settings(inline_bytes=0))
    assert isinstance(store, shardflow.Store)
    assert store.config.settings.inline_bytes == 0


def test_the_root_of_a_store_is_no_file(url: str) -> None:
    with pytest.raises(ShardflowError, match="is a directory"):
        shardflow.open(url)


def test_every_error_is_one_line_with_a_remedy(url: str, tmp_path: Path) -> None:
    for expected, act in (
        (StoreMissing, lambda: shardflow.ls(str(tmp_path / "nowhere"))),
        (PathMissing, lambda: shardflow.get(f"{url}/nothing", tmp_path / "x")),
        (PathMissing, lambda: shardflow.open(f"{url}/nothing")),
        (PathMissing, lambda: shardflow.stat(f"{url}/nothing")),
        (PathMissing, lambda: shardflow.rm(f"{url}/nothing")),
        (PathMissing, lambda: shardflow.ls(f"{url}/nothing")),
        (PathTaken, lambda: shardflow.open(f"{url}/models")),
    ):
        with pytest.raises(expected) as raised:
            act()
        assert isinstance(raised.value, shardflow.ShardflowError)
        assert raised.value.remedy
        assert "\n" not in str(raised.value)


def test_each_function_says_what_it_does() -> None:
    assert set(shardflow.__all__) == {*FACE, "ShardflowError", "Store"}
    for name in FACE:
        function = getattr(shardflow, name)
        assert function.__doc__.count("\n") == 0
        assert "url" in inspect.signature(function).parameters


def test_a_name_that_is_not_there_is_told_as_python_does() -> None:
    with pytest.raises(AttributeError, match="module 'shardflow' has no attribute 'frobnicate'"):
        shardflow.frobnicate  # noqa: B018


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ, check=True)
    return done.stdout


def test_importing_it_loads_nothing_heavy() -> None:
    """MLflow imports its plugins while it is imported itself."""
    heavy = ("numpy", "numba", "obstore", "zstandard", "msgspec", "click", "rich", "mlflow", "torch", "shardflow.store")
    loaded = run("import sys, shardflow; print(*sys.modules)").split()
    assert not set(heavy) & set(loaded)


def test_everything_can_be_imported_by_name_and_by_star() -> None:
    names = run("from shardflow import *; from shardflow import put, Store; print(put.__module__, open.__module__)")
    assert names.split() == ["shardflow.api", "shardflow.api"]
