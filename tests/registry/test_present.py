"""What others do to a registry while it is followed is seen, and asking again does not list all of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from registry.logged import Place, own_place
from shardflow.registry import present
from shardflow.registry.present import Present
from shardflow.registry.references import versions_of

BOTH_REGISTRIES = pytest.mark.parametrize("here", [True, False], ids=["gated", "plain"], indirect=True)


@pytest.fixture
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    with own_place(tmp_path, gated=getattr(request, "param", True)) as made:
        yield made


def names(seen: Present) -> list[str]:
    return sorted(each.name for each in seen.versions.values())


@BOTH_REGISTRIES
def test_what_is_registered_or_copied_later_is_seen(here: Place) -> None:
    model = here.log({"MLmodel": b"x: 1"})
    here.register("llama", model)
    seen = Present(here.client)
    llama = seen.versions["llama", 1]
    location = seen.location(llama)
    assert seen.made_from(llama) == []
    here.client.copy_model_version("models:/llama/1", "served")
    assert [each.name for each in seen.made_from(llama)] == ["served/1"]
    here.client.delete_model_version("llama", "1")
    assert seen.now(llama) is None
    assert seen.in_use(location), "by the copy"


@BOTH_REGISTRIES
def test_a_version_that_was_renamed_still_has_its_files(here: Place) -> None:
    model = here.log({"MLmodel": b"x: 1"})
    for name in ("llama", "other"):
        here.register(name, model)
    seen = Present(here.client)
    location = seen.location(seen.versions["llama", 1])
    here.client.delete_model_version("llama", "1")
    here.client.rename_registered_model("other", "renamed")
    assert seen.in_use(location)
    assert names(seen) == ["renamed/1"]
    here.client.delete_model_version("renamed", "1")
    assert not seen.in_use(location)


@BOTH_REGISTRIES
@pytest.mark.parametrize("below", ["", "/models", "/models/another"])
def test_a_logged_model_is_in_use_by_what_stands_above_it(here: Place, below: str) -> None:
    model = here.log({"MLmodel": b"x: 1"})
    here.register("llama", model)
    above = model.artifact_location.partition("/models/")[0]
    assert Present(here.client).in_use(above + below) == (below != "/models/another")


@pytest.mark.parametrize("page", [1, 2, 1000])
@pytest.mark.parametrize("name", ["llama", "ada's", """ada's "best" one"""], ids=["plain", "quote", "quotes"])
@BOTH_REGISTRIES
def test_the_newest_of_a_model_are_those_that_are_left(
    here: Place, monkeypatch: pytest.MonkeyPatch, page: int, name: str
) -> None:
    monkeypatch.setattr(present, "PAGE", page)
    model = here.log({"MLmodel": b"x: 1"})
    here.client.create_registered_model(name)
    for _ in range(4):
        here.client.create_model_version(name, f"models:/{model.model_id}")
    here.register("other", model)
    seen = Present(here.client)
    second = seen.versions[name, 2]
    assert [seen.is_among_last(second, last) for last in (0, 1, 2, 3, 9)] == [False, False, False, True, True]
    here.client.delete_model_version(name, "4")
    assert [seen.is_among_last(second, last) for last in (1, 2)] == [False, True]
    assert [each.version for each in versions_of(name, here.client)] == [1, 2, 3]


@pytest.mark.parametrize("page", [1, 2, 3, 1000])
def test_no_version_is_missed_because_another_is_removed_while_pages_are_listed(
    here: Place, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    model = here.log({"MLmodel": b"x: 1"})
    for _ in range(7):
        here.register("llama", model)
    monkeypatch.setattr(present, "PAGE", page)
    search, doomed = MlflowClient.search_model_versions, ["1", "2", "3"]

    def others_remove_one(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        found = search(client, *arguments, **named)
        if doomed:
            here.client.delete_model_version("llama", doomed.pop())
        return found

    monkeypatch.setattr(MlflowClient, "search_model_versions", others_remove_one)
    assert {f"llama/{number}" for number in range(4, 8)} <= set(names(Present(here.client)))


def made_from(model: str, version: int) -> dict[str, str]:
    return {"shardflow.parents": json.dumps([{"model": model, "version": version}])}


@pytest.mark.parametrize("page", [1, 2])
def test_a_name_is_forgotten_that_a_model_had_on_the_first_pages_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    """In MLflow's own registry, what names `llama/3` as its base was made from what is called otherwise by now."""
    with own_place(tmp_path, gated=False) as stock:
        model = stock.log({"MLmodel": b"x: 1"})
        for _ in range(3):
            stock.register("llama", model)
        stock.register("tuned", model, made_from("llama", 3))
        monkeypatch.setattr(present, "PAGE", page)
        search, new_names = MlflowClient.search_model_versions, ["llama-base"]

        def others_rename_it(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
            found = search(client, *arguments, **named)
            if new_names:
                stock.client.rename_registered_model("llama", new_names.pop())
            return found

        monkeypatch.setattr(MlflowClient, "search_model_versions", others_rename_it)
        seen = Present(stock.client)
        assert names(seen) == ["llama-base/1", "llama-base/2", "llama-base/3", "tuned/1"]
        assert [each.name for each in seen.made_from(seen.versions["llama-base", 3])] == ["tuned/1"]


@BOTH_REGISTRIES
def test_a_name_is_one_that_nobody_has_as_soon_as_the_last_version_of_it_is_gone(here: Place) -> None:
    """Then llama/1, which was changed after tuned/1 was made, may be what was called so."""
    model = here.log({"MLmodel": b"x: 1"})
    for name in ("llama", "gone", "gone"):
        here.register(name, model)
    here.register("tuned", model, made_from("gone", 1))
    seen = Present(here.client)
    llama = replace(seen.versions["llama", 1], updated=seen.versions["tuned", 1].created)
    found = []
    for number in (1, 2):
        found.append(seen.made_from(llama))
        here.client.delete_model_version("gone", str(number))
        seen.forget(seen.versions["gone", number])
    assert found == [[], []]
    assert [each.name for each in seen.made_from(llama)] == ["tuned/1"]


def test_a_later_look_lists_only_what_is_new(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    models = [here.log({"MLmodel": b"x: %d" % number}) for number in range(7)]
    for model in models:
        here.register("llama", model)
    monkeypatch.setattr(present, "NEWEST", 2)
    monkeypatch.setattr(present, "_CLOCKS", 0)
    seen = Present(here.client)
    listed, search = [], MlflowClient.search_model_versions

    def counted(client: MlflowClient, *arguments: Any, **named: Any) -> Any:
        found = search(client, *arguments, **named)
        listed.append(len(found))
        return found

    monkeypatch.setattr(MlflowClient, "search_model_versions", counted)
    assert seen.in_use(seen.location(seen.versions["llama", 4]))
    assert listed == [2]
    here.register("llama", models[0])
    assert seen.made_from(seen.versions["llama", 1]) == []
    assert "llama/8" in names(seen)
