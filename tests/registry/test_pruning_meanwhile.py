"""What changes between the plan and the removal counts: whatever came to need a version keeps it, and its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from registry.logged import Place, own_place
from shardflow.registry.present import Present
from shardflow.registry.pruning import Retention, deployed, planned, remove

NOW = 1_000 * 86_400.0
NONE = Retention(last=0)
MADE_FROM_LLAMA = {"shardflow.parents": json.dumps([{"model": "llama", "version": 1}])}
BOTH_REGISTRIES = pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        yield made


def stored(here: Place) -> list[str]:
    return [entry.path for entry in here.store.ls(recursive=True)]


@BOTH_REGISTRIES
def test_what_was_copied_after_the_plan_stays(tmp_path: Path, gated: bool) -> None:
    with own_place(tmp_path, gated=gated) as here:
        here.register("llama", here.log({"MLmodel": b"x: 1"}))
        before = stored(here)
        present = Present(here.client)
        plan = planned(present.versions.values(), NONE, NOW)
        done = remove(plan, present, lambda _: here.client.copy_model_version("models:/llama/1", "served"))
        assert done.refused == [("llama/1", "served/1 was made from it")]
        assert stored(here) == before


@BOTH_REGISTRIES
@pytest.mark.parametrize("moment", ["delete_model_version", "delete_logged_model"])
def test_files_that_are_registered_once_more_while_a_version_goes_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, gated: bool
) -> None:
    with own_place(tmp_path, gated=gated) as here:
        model = here.log({"MLmodel": b"x: 1"})
        here.register("llama", model)
        before = stored(here)
        present = Present(here.client)
        plan = planned(present.versions.values(), NONE, NOW)
        as_usual = getattr(MlflowClient, moment)

        def somebody_is_faster(client: MlflowClient, *named: str) -> None:
            here.register("served", model)
            as_usual(client, *named)

        monkeypatch.setattr(MlflowClient, moment, somebody_is_faster)
        assert remove(plan, present).versions == ["llama/1"]
        assert stored(here) == before
        monkeypatch.undo()
        present = Present(here.client)
        left = planned(present.versions.values(), NONE, NOW)
        assert remove(left, present).versions == ["served/1"]  # also if its logged model went before it
        assert stored(here) == []


def test_what_moved_to_testing_after_the_plan_stays(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"x: 1"}))
    before = stored(here)
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW)
    here.client.set_model_version_tag("llama", "1", "shardflow.status", "testing: rollout")
    assert remove(plan, present).refused == [("llama/1", "it moved to testing meanwhile")]
    assert stored(here) == before


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
def test_what_moved_to_production_in_mlflow_s_own_registry_after_the_plan_stays(tmp_path: Path) -> None:
    with own_place(tmp_path, gated=False) as here:
        here.register("llama", here.log({"MLmodel": b"x: 1"}))
        before = stored(here)
        present = Present(here.client)
        plan = planned(present.versions.values(), NONE, NOW)
        here.client.transition_model_version_stage("llama", "1", "Production")
        assert remove(plan, present).refused == [("llama/1", "it moved to production meanwhile")]
        assert stored(here) == before


def test_what_was_deployed_after_the_plan_stays(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"x: 1"}))
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW)
    here.client.set_model_version_tag("llama", "1", "shardflow.deployment", '{"target": "eu", "at": 1000}')
    assert remove(plan, present).refused == [("llama/1", "it was deployed meanwhile")]


def test_what_was_deployed_again_in_the_same_words_after_the_plan_stays(here: Place) -> None:
    for number in (1, 2):
        here.register("llama", here.log({"MLmodel": b"x: %d" % number}))
    for number in ("1", "2"):
        here.client.set_model_version_tag("llama", number, "shardflow.deployment", '{"target": "eu", "at": 1000}')
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW, deployed=deployed(here.client))
    assert [each.name for each in plan.going] == ["llama/1"]
    here.client.set_model_version_tag("llama", "1", "shardflow.deployment", '{"target": "eu", "at": 1000}')
    assert remove(plan, present).refused == [("llama/1", "it was deployed meanwhile")]


@BOTH_REGISTRIES
def test_the_newest_that_are_left_when_others_were_removed_after_the_plan_stay(tmp_path: Path, gated: bool) -> None:
    with own_place(tmp_path, gated=gated) as here:
        for number in range(5):
            here.register("llama", here.log({"MLmodel": b"x: %d" % number}))
        present = Present(here.client)
        plan = planned(present.versions.values(), Retention(last=2), NOW)
        here.client.delete_model_version("llama", "5")
        done = remove(plan, present)
        assert sorted(done.versions) == ["llama/1", "llama/2"]
        assert done.refused == [("llama/3", "by now it is one of the last 2")]


def test_what_a_version_was_made_from_stays_with_it(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"x: 1"}))
    here.register("tuned", here.log({"MLmodel": b"x: 2"}), MADE_FROM_LLAMA)
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW)
    here.client.set_model_version_tag("tuned", "1", "shardflow.status", "testing: rollout")
    assert dict(remove(plan, present).refused)["llama/1"] == "tuned/1 was made from it"


def test_what_somebody_else_has_removed_is_told(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"x: 1"}))
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW)
    here.client.delete_model_version("llama", "1")
    assert remove(plan, present).refused == [("llama/1", "somebody else has removed it")]


def test_what_the_registry_does_not_let_go_keeps_its_files_and_is_told(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"x: 1"}))
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW)
    here.client.set_model_version_tag("llama", "1", "shardflow.status", "staging")  # after the plan was made
    before = stored(here)
    done = remove(plan, present)
    assert done.versions == []
    assert done.refused[0][0] == "llama/1"
    assert stored(here) == before
