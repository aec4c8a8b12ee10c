"""What a retention policy keeps, and that what goes is gone, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.logged import Place, own_place
from shardflow.registry.deployments import Deployment, Outcome
from shardflow.registry.present import Present
from shardflow.registry.pruning import DAY, Plan, Removed, Retention, deployed, planned, remove
from shardflow.registry.references import Registered
from shardflow.store.care.gc import collect

NOW = 1000 * DAY
NONE = Retention(last=0)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        yield made


def version(number: int, model: str = "llama", parents: tuple[tuple[str, int], ...] = (), **tags: Any) -> Registered:
    given = {f"shardflow.{key}": value if isinstance(value, str) else json.dumps(value) for key, value in tags.items()}
    if parents:
        given["shardflow.parents"] = json.dumps([{"model": name, "version": each} for name, each in parents])
    return Registered(model, number, "somewhere", f"models:/m-{number:032x}", None, 0.0, given)


def going(plan: Plan) -> list[str]:
    return [each.name for each in plan.going]


def reasons(plan: Plan) -> dict[str, str]:
    return {each.version.name: each.reason for each in plan.kept}


def test_the_newest_of_each_model_stay() -> None:
    versions = [*(version(number) for number in range(1, 6)), *(version(number, "bert") for number in (1, 2))]
    assert sorted(going(planned(versions, Retention(last=2), NOW))) == ["llama/1", "llama/2", "llama/3"]


@pytest.mark.parametrize("status", ["testing", "staging", "production"])
def test_what_somebody_relies_on_stays(status: str) -> None:
    plan = planned([version(1, status=status), version(2, status="archived"), version(3)], NONE, NOW)
    assert going(plan) == ["llama/2", "llama/3"]
    assert reasons(plan) == {"llama/1": f"in {status}"}


def ran(number: int, days_ago: float, outcome: Outcome = Outcome.SUCCEEDED, target: str = "eu") -> Deployment:
    return Deployment(target, "llama", number, NOW - days_ago * DAY, outcome)


def test_what_runs_or_ran_not_long_ago_stays() -> None:
    history = [ran(1, 300), ran(2, 200), ran(3, 20), ran(4, 10, Outcome.FAILED), ran(5, 300, target="us")]
    plan = planned([version(number) for number in range(1, 7)], NONE, NOW, deployed=history)
    assert sorted(going(plan)) == ["llama/1", "llama/4", "llama/6"]
    assert reasons(plan) == {
        "llama/2": "ran at eu not long ago",  # until it was replaced, inside of the 90 days
        "llama/3": "runs at eu",
        "llama/5": "runs at us",
    }


def test_what_was_taken_away_long_ago_may_go() -> None:
    history = [ran(1, 300), ran(1, 100, Outcome.REMOVED), ran(2, 300, target="us"), ran(2, 80, Outcome.REMOVED, "us")]
    assert going(planned([version(1), version(2)], NONE, NOW, deployed=history)) == ["llama/1"]


def test_the_deployments_are_those_that_the_registry_recorded(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"flavors: {}"}))
    here.client.set_model_version_tag("llama", "1", "shardflow.deployment", '{"target": "eu", "at": 1000}')
    here.client.set_model_version_tag("llama", "1", "shardflow.deployment", '{"target": "us", "at": 2000}')
    assert [(each.target, each.at) for each in deployed(here.client)] == [("eu", 1000.0), ("us", 2000.0)]


def test_a_registry_without_this_package_has_no_deployments(tmp_path: Path) -> None:
    with own_place(tmp_path, gated=False) as stock:
        assert deployed(stock.client) == []


def test_the_bases_of_what_stays_stay_across_models() -> None:
    versions = [
        version(1),
        version(2, parents=(("llama", 1),)),
        version(3, parents=(("llama", 2), ("hub/bert", 0))),
        version(1, "tuned", (("llama", 2),), status="production"),
    ]
    plan = planned(versions, NONE, NOW)
    assert going(plan) == ["llama/3"]
    assert reasons(plan)["llama/1"] == "llama/2 was made from it"


def test_children_go_before_what_they_were_made_from() -> None:
    versions = [version(1), version(2, parents=(("llama", 1),)), version(3, parents=(("llama", 2), ("llama", 1)))]
    assert going(planned(versions, NONE, NOW)) == ["llama/3", "llama/2", "llama/1"]
    circle = [version(1, parents=(("llama", 2),)), version(2, parents=(("llama", 1),))]
    assert sorted(going(planned(circle, NONE, NOW))) == ["llama/1", "llama/2"]


def test_models_that_were_not_named_are_left_alone_and_keep_their_bases() -> None:
    versions = [version(1), version(1, "bert", (("llama", 1),)), version(2)]
    plan = planned(versions, NONE, NOW, among=lambda name: name == "llama")
    assert going(plan) == ["llama/2"]
    assert list(reasons(plan)) == ["llama/1"]


def pruned(here: Place, retention: Retention, among: Callable[[str], bool] = lambda _: True) -> Removed:
    """What `shardflow prune --delete` does."""
    present = Present(here.client)
    return remove(planned(present.versions.values(), retention, NOW, among), present)


def stored(here: Place) -> list[str]:
    return [entry.path for entry in here.store.ls(recursive=True)]


def test_what_goes_leaves_the_registry_the_tracking_and_the_store(here: Place) -> None:
    models = [here.log({"MLmodel": b"x: %d" % number, "weights.bin": bytes([number]) * 50_000}) for number in range(3)]
    for model in models:
        here.register("llama", model)
    before = here.store.stat().size
    done = pruned(here, Retention(last=1))
    assert sorted(done.versions) == ["llama/1", "llama/2"]
    assert done.size == 2 * 50_004
    assert here.store.stat().size == before - done.size
    assert [found.name for found in Present(here.client).versions.values()] == ["llama/3"]
    assert done.stores == {str(here.store.url)}
    left = here.client.search_logged_models([here.experiment])
    assert [model.model_id for model in left] == [models[2].model_id]


def test_the_store_frees_what_nothing_else_needs(here: Place) -> None:
    import random

    for number in range(2):
        here.register("llama", here.log({"MLmodel": b"x: 1", "weights.bin": random.Random(number).randbytes(300_000)}))
    pruned(here, Retention(last=1))
    for _ in range(2):
        collect(here.store, grace=0)
    assert sum(info.size for info in here.store.transport.list("packs/")) < 400_000


def test_files_that_another_version_has_too_stay(here: Place) -> None:
    model = here.log({"MLmodel": b"x: 1"})
    here.register("llama", model)
    here.register("other", model)
    before = stored(here)
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW, among=lambda name: name == "llama")
    done = remove(plan, present)
    assert done.versions == ["llama/1"]
    assert stored(here) == before
    assert here.client.get_logged_model(model.model_id)


BOTH_REGISTRIES = pytest.mark.parametrize("gated", [True, False], ids=["gated", "plain"])


def promote(here: Place, model: str, *, gated: bool) -> None:
    """Into use: by a move in this package's registry, by a stage in MLflow's own."""
    if gated:
        here.client.set_model_version_tag(model, "1", "shardflow.status", "staging")
    else:
        here.client.transition_model_version_stage(model, "1", "Production")


@BOTH_REGISTRIES
@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
@pytest.mark.parametrize(("gone", "used"), [("llama", "served"), ("served", "llama")])
def test_a_copy_and_its_original_do_not_take_each_other_s_files(
    tmp_path: Path, gone: str, used: str, gated: bool
) -> None:
    with own_place(tmp_path, gated=gated) as here:
        here.register("llama", here.log({"MLmodel": b"x: 1"}))
        here.client.copy_model_version("models:/llama/1", "served")
        promote(here, used, gated=gated)
        before = stored(here)
        pruned(here, NONE, among=lambda name: name == gone)
        assert stored(here) == before
        assert f"{used}/1" in [found.name for found in Present(here.client).versions.values()]


def test_the_original_of_a_copy_that_stays_is_among_its_bases() -> None:
    copy = replace(version(1, "served", status="production"), source="models:/llama/1")
    assert reasons(planned([version(1), copy], NONE, NOW))["llama/1"] == "served/1 was made from it"


def test_a_copy_of_a_copy_has_the_files_although_the_copy_between_is_gone(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"x: 1"}))
    here.client.copy_model_version("models:/llama/1", "between")
    here.client.copy_model_version("models:/between/1", "served")
    here.client.delete_model_version("between", "1")
    before = stored(here)
    done = pruned(here, NONE, among=lambda name: name == "llama")
    assert done.versions == ["llama/1"]
    assert stored(here) == before


def test_copies_that_all_go_take_the_files_and_the_logged_model_along(here: Place) -> None:
    here.register("llama", here.log({"MLmodel": b"x: 1"}))
    here.client.copy_model_version("models:/llama/1", "served")
    done = pruned(here, NONE)
    assert done.versions == ["served/1", "llama/1"]
    assert stored(here) == []
    assert here.client.search_logged_models([here.experiment]) == []


def test_a_directory_below_which_another_version_has_files_stays(here: Place) -> None:
    model = here.log({"MLmodel": b"x: 1", "adapter/MLmodel": b"x: 2"})
    here.register("llama", model)
    here.client.create_registered_model("adapter")
    here.client.create_model_version("adapter", f"{model.artifact_location}/adapter")
    before = stored(here)
    pruned(here, NONE, among=lambda name: name == "llama")
    assert stored(here) == before


def test_a_version_of_a_directory_above_logged_models_leaves_theirs(here: Place) -> None:
    model = here.log({"MLmodel": b"x: 1"})
    here.register("served", model)
    here.client.create_registered_model("all")
    here.client.create_model_version("all", model.artifact_location.partition("/models/")[0])
    before = stored(here)
    done = pruned(here, NONE, among=lambda name: name == "all")
    assert (done.versions, done.left) == (["all/1"], [])
    assert stored(here) == before


def test_what_was_deployed_long_ago_goes(here: Place) -> None:
    for number in (1, 2):
        here.register("llama", here.log({"MLmodel": b"x: %d" % number}))
        here.client.set_model_version_tag("llama", str(number), "shardflow.deployment", '{"target": "eu", "at": 1000}')
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, NOW, deployed=deployed(here.client))
    assert remove(plan, present).versions == ["llama/1"]


def test_versions_that_were_made_from_each_other_go_together(tmp_path: Path) -> None:
    with own_place(tmp_path, gated=False) as here:  # this package's registry lets nobody say so
        for number in (1, 2):
            here.register("llama", here.log({"MLmodel": b"x: %d" % number}), version(1, parents=(("llama", 2),)).tags)
        here.client.set_model_version_tag(
            "llama", "2", "shardflow.parents", version(2, parents=(("llama", 1),)).tags["shardflow.parents"]
        )
        assert len(pruned(here, NONE).versions) == 2
