"""`shardflow prune`: says what it would do, does it when told to, and begins to free the bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.conftest import Command
from registry.logged import Place, own_place
from shardflow.registry.present import Present
from shardflow.registry.references import Registered, versions_of
from shardflow.store.store import Store
from shardflow.transport import AccessDenied


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        for number in range(3):
            made.register("llama", made.log({"MLmodel": b"%d" % number, "w.bin": bytes([number]) * 5000}))
        yield made


def names(here: Place) -> list[str]:
    return [found.name for found in versions_of("llama", here.client)]


def test_without_delete_nothing_is_removed(here: Place, shardflow: Command) -> None:
    done = shardflow("prune", "ll*", "--keep-last", "1")
    assert done.code == 0
    assert "2 versions can go, 1 stay" in done.out
    assert "llama/3 stays: one of the last 1" in done.out
    assert done.out.endswith("nothing was removed: add --delete for that\n")
    assert len(names(here)) == 3
    document = shardflow("prune", "ll*", "--keep-last", "1", "--json").document
    assert document["dry_run"]
    assert sorted(document["going"]) == ["llama/1", "llama/2"]


def test_with_delete_they_go_and_gc_begins(here: Place, shardflow: Command) -> None:
    done = shardflow("prune", "llama", "--keep-last", "1", "--delete", "--gc")
    assert done.code == 0
    assert "removed 2 versions" in done.out
    assert "in use by" in done.out
    assert names(here) == ["llama/3"]


def test_all_versions_are_listed_once(here: Place, shardflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    whole = Present._listed

    def counted(present: Present, order: str, *arguments: float) -> list[Registered]:
        listed.append(order)
        return whole(present, order, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Present, "_listed", counted)
    assert shardflow("prune", "llama", "--keep-last", "1", "--delete").code == 0
    assert listed.count("creation_timestamp ASC") == 1
    assert names(here) == ["llama/3"]


def test_what_the_registry_keeps_is_told_and_counts_as_a_failure(
    here: Place, shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def refuse(*_: object) -> None:
        raise MlflowException("Archive it first (it is in production)")

    monkeypatch.setattr(MlflowClient, "delete_model_version", refuse)
    done = shardflow("prune", "llama", "--keep-last", "2", "--delete")
    assert done.code == 1
    assert "llama/1 stays: Archive it first (it is in production)" in done.out


def test_no_password_is_told(here: Place, shardflow: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def fail(*_: object) -> None:
        raise MlflowException("API request to http://ada:secret@mlflow/api failed:\ntoo many 500 error responses")

    told = "API request to http://mlflow/api failed: too many 500 error responses"
    here.client.create_registered_model("far")
    here.client.create_model_version("far", f"ftp://ada:secret@host/m-{1:032}/artifacts")
    arguments = ("prune", "far", "--keep-last", "0")
    with monkeypatch.context() as failing:
        failing.setattr(MlflowClient, "delete_model_version", fail)
        assert f"far/1 stays: {told}\n" in shardflow(*arguments, "--delete").out
    with monkeypatch.context() as failing:
        failing.setattr(MlflowClient, "delete_logged_model", fail)
        done = shardflow(*arguments, "--delete")
    assert f"files of far/1 left at ftp://host/m-{1:032}/artifacts: {told}\n" in done.out
    assert f"far/1 was removed, its files in ftp://host/m-{1:032}/artifacts not yet\n" in shardflow(*arguments).out
    assert "secret" not in shardflow(*arguments, "--json").out


def test_files_that_are_left_are_told_and_removed_by_the_next_run(
    here: Place, shardflow: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AccessDenied("the store cannot be written", remedy="get the rights")

    arguments = ("prune", "llama", "--keep-last", "2")
    with monkeypatch.context() as failing:
        failing.setattr(Store, "rm", refuse)
        done = shardflow(*arguments, "--delete")
    assert done.code == 1
    assert "removed 1 version" in done.out
    assert "files of llama/1 left at shardflow://" in done.out
    assert "the store cannot be written; get the rights" in done.out
    done = shardflow(*arguments)
    assert done.code == 0
    assert "llama/1 was removed, its files in shardflow://" in done.out
    assert done.out.endswith("nothing was removed: add --delete for that\n")
    assert shardflow("prune", "other", "--delete").code == 0
    document = shardflow(*arguments, "--delete", "--json").document
    assert (document["finished"], document["removed"], document["left"]) == (["llama/1"], [], [])
    assert document["unfinished"][0]["version"] == "llama/1"
    assert len(list(here.store.ls(recursive=True))) == 4


def test_gc_alone_means_nothing(here: Place, shardflow: Command) -> None:
    assert shardflow("prune", "llama", "--gc").code == 2
