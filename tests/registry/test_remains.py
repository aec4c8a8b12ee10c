"""What is left of a version when the store fails or the run is killed is told, found and removed by the next run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry.logged import Place, own_place, write
from shardflow.errors import CorruptData
from shardflow.registry.present import Present
from shardflow.registry.pruning import Removed, Retention, planned, remove
from shardflow.registry.remains import noted
from shardflow.store.store import Store
from shardflow.transport import AccessDenied


@pytest.fixture(params=[True, False], ids=["gated", "plain"])
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    with own_place(tmp_path, gated=request.param) as made:
        yield made


def registered(here: Place, count: int = 1) -> None:
    for number in range(count):
        here.register("llama", here.log({"MLmodel": b"x: %d" % number}))


def from_directory(here: Place, name: str = "plain") -> str:
    """A version of a directory that is no logged model's."""
    location = f"{here.store.url}/somewhere/{name}"
    write(location, "weights.bin", b"1" * 5000)
    here.client.create_registered_model(name)
    here.client.create_model_version(name, location)
    return location


def prune(here: Place) -> Removed:
    present = Present(here.client)
    return remove(planned(present.versions.values(), Retention(last=0), 0.0), present, begun=noted(here.client))


def stored(here: Place) -> list[str]:
    return [entry.path for entry in here.store.ls(recursive=True)]


def tags(here: Place, model: str) -> dict[str, str]:
    return dict(here.client.get_registered_model(model).tags)


def no_rights(*_: Any, **__: Any) -> None:
    raise AccessDenied("the store cannot be written", remedy="get the rights")


def kill(here: Place, monkeypatch: pytest.MonkeyPatch, owner: type, moment: str) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killing:
        killing.setattr(owner, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            prune(here)


def test_a_store_that_fails_is_told_and_the_rest_goes_on(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(here, 2)
    with monkeypatch.context() as failing:
        failing.setattr(Store, "rm", no_rights)
        done = prune(here)
    assert sorted(done.versions) == ["llama/1", "llama/2"]
    assert [each["reason"] for each in done.as_dict()["left"]] == ["the store cannot be written; get the rights"] * 2
    assert sorted(each.location.removeprefix(f"{here.store.url}/") + "/MLmodel" for each in done.left) == stored(here)
    again = prune(here)
    assert sorted(again.finished) == ["llama/1", "llama/2"]
    assert (again.versions, again.left, again.size) == ([], [], 8)
    assert again.stores == {str(here.store.url)}
    assert stored(here) == []
    assert noted(here.client) == []


def test_a_store_that_cannot_be_asked_keeps_the_version(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(here)
    with monkeypatch.context() as failing:
        failing.setattr(Store, "find", no_rights)
        done = prune(here)
    assert done.refused == [("llama/1", "the store cannot be written; get the rights")]
    assert prune(here).versions == ["llama/1"]


def test_tracking_that_fails_is_told_and_tried_again(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise MlflowException("the server\nis busy")

    registered(here)
    with monkeypatch.context() as failing:
        failing.setattr(MlflowClient, "delete_logged_model", fail)
        done = prune(here)
    assert (done.versions, [each.reason for each in done.left]) == (["llama/1"], ["the server is busy"])
    assert prune(here).finished == ["llama/1"]
    assert here.client.search_logged_models([here.experiment]) == []


@pytest.mark.parametrize(
    ("registering", "owner", "moment"),
    [
        (registered, MlflowClient, "delete_logged_model"),
        (registered, Store, "stat"),
        (registered, Store, "rm"),
        (from_directory, Store, "stat"),
        (from_directory, Store, "rm"),
    ],
)
def test_a_run_that_was_killed_is_finished_by_the_next(
    here: Place, monkeypatch: pytest.MonkeyPatch, registering: Callable[[Place], object], owner: type, moment: str
) -> None:
    registering(here)
    kill(here, monkeypatch, owner, moment)
    assert Present(here.client).versions == {}
    prune(here)
    assert stored(here) == []
    assert here.client.search_logged_models([here.experiment]) == []
    assert noted(here.client) == []


def test_a_version_that_was_only_noted_when_the_run_was_killed_has_its_files(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered(here)
    before = stored(here)
    kill(here, monkeypatch, MlflowClient, "delete_model_version")
    (begun,) = noted(here.client)
    assert begun.name == "llama/1"
    done = remove(planned([], Retention(), 0.0), Present(here.client), begun=[begun])
    assert (done.finished, done.left, stored(here)) == ([], [], before)
    assert tags(here, "llama") == {}


def test_a_version_that_the_registry_does_not_let_go_is_noted_no_more(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise MlflowException("archive it first")

    registered(here)
    monkeypatch.setattr(MlflowClient, "delete_model_version", refuse)
    assert prune(here).refused == [("llama/1", "archive it first")]
    assert tags(here, "llama") == {}


def test_a_version_is_gone_although_the_answer_was_lost(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = MlflowClient.delete_model_version

    def without_answer(client: MlflowClient, *named: str) -> None:
        delete(client, *named)
        raise MlflowException("connection reset")

    registered(here)
    monkeypatch.setattr(MlflowClient, "delete_model_version", without_answer)
    assert prune(here).versions == ["llama/1"]
    assert stored(here) == []


def interrupted(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as failing:
        failing.setattr(Store, "rm", no_rights)
        assert prune(here).left


def test_what_is_registered_once_more_before_the_next_run_stays(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    location = from_directory(here)
    interrupted(here, monkeypatch)
    here.client.create_model_version("plain", location)
    done = remove(planned([], Retention(), 0.0), Present(here.client), begun=noted(here.client))
    assert (done.finished, done.left) == ([], [])
    assert stored(here) == ["somewhere/plain/weights.bin"]
    assert noted(here.client) == []


def test_what_is_stored_there_before_the_next_run_stays_and_is_told(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = from_directory(here)
    interrupted(here, monkeypatch)
    write(location, "weights.bin", b"2" * 5000)
    done = prune(here)
    assert [each.reason.partition(";")[0] for each in done.left] == [f"somebody has stored files in {location} since"]
    assert stored(here) == ["somewhere/plain/weights.bin"]
    assert prune(here).left == [], "it is told once"


def test_what_is_left_of_a_model_that_was_renamed_is_found(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    registered(here)
    interrupted(here, monkeypatch)
    here.client.rename_registered_model("llama", "renamed")
    assert prune(here).finished == ["renamed/1"]
    assert stored(here) == []


def test_damaged_files_go_as_well(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: Any) -> None:
        raise CorruptData("a manifest is damaged")

    registered(here)
    with monkeypatch.context() as failing:
        failing.setattr(Store, "stat", damaged)
        assert prune(here).left == []
    assert stored(here) == []


def test_a_directory_with_logged_models_in_it_stays_although_none_of_them_is_registered(here: Place) -> None:
    model = here.log({"MLmodel": b"x: 1"})
    above = model.artifact_location.partition("/models/")[0]
    here.client.create_registered_model("all")
    here.client.create_model_version("all", above)
    before = stored(here)
    done = prune(here)
    assert done.versions == ["all/1"]
    assert [each.reason.partition(";")[0] for each in done.left] == [f"{above} has logged models in it"]
    assert stored(here) == before


def test_tags_that_somebody_else_has_set_are_no_notes(here: Place) -> None:
    here.client.create_registered_model("llama", {"pruning.1": "soon", "pruning.2": "[]", "pruning.all": "{}"})
    assert noted(here.client) == []
