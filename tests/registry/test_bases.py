"""What a version was made from is known also after a rename, and after its tag was set to something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from registry.logged import Place, own_place
from shardflow.registry.bases import all_bases, bases_of, children_shown, has_more_children, name_of
from shardflow.registry.lineage import Name
from shardflow.registry.present import Present
from shardflow.registry.pruning import Retention, deployed, planned, remove
from shardflow.registry.references import Registered

FILES = {"MLmodel": b"flavors: {}"}
NONE = Retention(last=0)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        yield made


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path, gated=False) as made:
        yield made


def parents(*names: Name, relation: str = "base") -> dict[str, str]:
    told = [{"model": model, "version": version, "relation": relation} for model, version in names]
    return {"shardflow.parents": json.dumps(told)}


def version(name: str, tags: dict[str, str] | None = None, *, at: float = 0.0, updated: float = 0.0) -> Registered:
    model, _, number = name.partition("/")
    return Registered(
        model, int(number), "somewhere", f"models:/m-{number:>032}", None, at, tags or {}, updated=updated
    )


def told(*versions: Registered) -> dict[str, list[str]]:
    """For each version that has bases, their names."""
    found = all_bases({name_of(each): each for each in versions})
    return {
        f"{model}/{number}": sorted(f"{base}/{of}" for base, of in bases)
        for (model, number), bases in found.items()
        if bases
    }


def kept(here: Place) -> dict[str, str]:
    plan = planned(Present(here.client).versions.values(), NONE, 0.0, deployed=deployed(here.client))
    return {each.version.name: each.reason for each in plan.kept}


def test_a_copy_was_made_from_what_its_tag_calls_its_original_rather_than_its_source() -> None:
    copy = replace(version("served/1"), source="models:/llama/1")
    assert bases_of(copy) == {("llama", 1)}
    renamed = replace(copy, tags=parents(("llama-base", 1), relation="copy"))
    assert bases_of(renamed) == {("llama-base", 1)}


def test_children_that_the_registry_shows_are_read_whatever_they_are_called() -> None:
    shown = version("llama/1", {"shardflow.children": "a, b/12, c and 3 more/1, d/2 and 4 more"})
    assert children_shown(shown) == {("a, b", 12), ("c and 3 more", 1), ("d", 2)}
    assert has_more_children(shown)
    assert children_shown(version("llama/1")) == set()
    assert not has_more_children(version("llama/1", {"shardflow.children": "tuned/1"}))


def test_a_base_is_known_by_the_tag_of_either_end() -> None:
    assert told(version("llama/1"), version("tuned/1", parents(("llama", 1)))) == {"tuned/1": ["llama/1"]}
    assert told(version("llama/1", {"shardflow.children": "gone/1, tuned/1"}), version("tuned/1")) == {
        "tuned/1": ["llama/1"]
    }


def test_a_name_that_nobody_has_may_be_that_of_what_was_changed_since() -> None:
    tuned = version("tuned/1", parents(("llama", 1)), at=10)
    candidates = [
        version("renamed/1", at=5, updated=20),
        version("never-changed/1", at=5, updated=5),
        version("too-young/1", at=15, updated=20),
        version("renamed/2", at=5, updated=20),
    ]
    assert told(tuned, *candidates) == {"tuned/1": ["renamed/1"]}
    assert told(tuned, *candidates, version("llama/2")) == {}, "llama/1 was removed"


def test_a_model_from_elsewhere_is_no_base_that_was_renamed() -> None:
    assert told(version("tuned/1", parents(("hub/bert", 0)), at=10), version("llama/1", at=5, updated=20)) == {}


@pytest.mark.parametrize("copied", [False, True], ids=["trained on", "copied"])
def test_the_base_of_what_stays_stays_after_it_was_renamed(here: Place, copied: bool) -> None:
    here.register("llama", here.log(FILES))
    if copied:
        here.client.copy_model_version("models:/llama/1", "tuned")
    else:
        here.register("tuned", here.log(FILES), parents(("llama", 1)))
    here.client.set_model_version_tag("tuned", "1", "shardflow.status", "staging")
    here.client.rename_registered_model("llama", "llama-base")
    assert kept(here) == {"tuned/1": "in staging", "llama-base/1": "tuned/1 was made from it"}


@pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning")
@pytest.mark.parametrize("copied", [False, True], ids=["trained on", "copied"])
def test_in_mlflow_s_own_registry_what_may_be_a_base_that_was_renamed_stays(stock: Place, copied: bool) -> None:
    for name in ("llama", "never-renamed"):
        stock.register(name, stock.log(FILES))
    if copied:
        stock.client.copy_model_version("models:/llama/1", "tuned")
    else:
        stock.register("tuned", stock.log(FILES), parents(("llama", 1)))
    before = Present(stock.client).versions
    stock.client.rename_registered_model("llama", "llama-base")
    present = Present(stock.client)
    plan = planned(present.versions.values(), NONE, 0.0)
    stock.client.transition_model_version_stage("tuned", "1", "Production")
    assert kept(stock) == {
        "tuned/1": "in production",
        "llama-base/1": "tuned/1 may have been made from it, when it was called llama/1",
    }
    done = remove(plan, present)
    assert dict(done.refused)["llama-base/1"] == "tuned/1 was made from it"
    assert done.versions == ["never-renamed/1"]
    assert len(before) == 3


def test_a_base_stays_that_the_tag_names_no_more(here: Place) -> None:
    for name in ("llama", "bert", "tuned"):
        here.register(name, here.log(FILES))
    present = Present(here.client)
    plan = planned(present.versions.values(), NONE, 0.0)
    for base in ("llama", "bert"):  # which adds to what it was made from
        here.client.set_model_version_tag("tuned", "1", "shardflow.parents", parents((base, 1))["shardflow.parents"])
    here.client.set_model_version_tag("tuned", "1", "shardflow.status", "staging")
    assert sorted(kept(here)) == ["bert/1", "llama/1", "tuned/1"]
    assert remove(plan, present).versions == [], "although nobody knew of it when the plan was made"


def test_a_base_of_more_versions_than_are_shown_on_it_stays(here: Place) -> None:
    model = here.log(FILES)
    here.register("llama", model)
    for number in range(21):
        here.register(f"tuned-{number:02}", model, parents(("llama", 1)))
    here.register("bert", model)
    present = Present(here.client)
    plan = planned([each for each in present.versions.values() if each.model == "llama"], NONE, 0.0)
    for number in range(20):
        here.client.delete_model_version(f"tuned-{number:02}", "1")
    here.client.set_model_version_tag("tuned-20", "1", "shardflow.parents", parents(("bert", 1))["shardflow.parents"])
    assert remove(plan, present).refused == [("llama/1", "tuned-20/1 was made from it")]
