"""The lineage of versions: recorded when they are registered, asked for in one search, shown as a tree and a page."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import create_engine, event, insert

from registry.logged import Place, own_place
from shardflow.registry import moving
from shardflow.registry.evidence_digests import files_of
from shardflow.registry.lineage import Lineage, Link, distance, distances, lineage_of, links_of, title, tree
from shardflow.registry.lineage_page import log_page, page
from shardflow.registry.lineage_search import relatives
from shardflow.registry.references import described, find
from shardflow.registry.tables import METADATA, PARENTS
from timing import worked

FILES = {"MLmodel": b"flavors: {}"}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Place]:
    with own_place(tmp_path) as made:
        yield made


def parents(*names: tuple[str, int]) -> dict[str, str]:
    import json

    return {"shardflow.parents": json.dumps([{"model": model, "version": version} for model, version in names])}


def family(here: Place) -> None:
    """llama/1 -> llama/2 -> tuned/1, merged/1 of tuned/1 and llama/2, and a stranger."""
    here.register("llama", here.log(FILES), {"shardflow.version": "1.0.0"})
    here.register("llama", here.log(FILES), parents(("llama", 1)))
    here.register("tuned", here.log(FILES), parents(("llama", 2)))
    here.register("merged", here.log(FILES), parents(("tuned", 1), ("llama", 2)))
    here.register("llama", here.log(FILES))


def children(here: Place, model: str, version: str) -> str | None:
    found: str | None = here.client.get_model_version(model, version).tags.get("shardflow.children")
    return found


def test_a_version_shows_what_was_made_from_it_as_soon_as_and_as_long_as_it_is_there(here: Place) -> None:
    family(here)
    assert children(here, "llama", "1") == "llama/2"
    assert children(here, "llama", "2") == "merged/1, tuned/1"
    assert children(here, "llama", "3") is None
    here.client.rename_registered_model("tuned", "adapted")
    assert children(here, "llama", "2") == "adapted/1, merged/1"
    here.client.delete_registered_model("merged")
    assert children(here, "llama", "2") == "adapted/1"
    assert children(here, "adapted", "1") is None
    here.client.copy_model_version("models:/llama/2", "served")
    assert children(here, "llama", "2") == "adapted/1, served/1"
    assert children(here, "served", "1") is None


def test_a_version_shows_what_it_was_made_from_by_the_name_that_this_has_now(here: Place) -> None:
    family(here)
    here.client.copy_model_version("models:/llama/2", "served")
    here.client.delete_model_version("tuned", "1")
    here.client.rename_registered_model("llama", "renamed")

    def told(model: str, version: str) -> list[tuple[tuple[str, int], str]]:
        found = described(here.client.get_model_version(model, version))
        return [(link.parent, link.relation) for link in links_of(found)]

    assert told("renamed", "2") == [(("renamed", 1), "base")]
    assert told("merged", "1") == [(("renamed", 2), "base"), (("tuned", 1), "base")]
    assert told("served", "1") == [(("renamed", 2), "copy")]
    assert told("renamed", "3") == []


def test_a_rename_looks_up_no_version_of_other_models_but_those_that_were_made_from_it(
    here: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.register("llama", here.log(FILES))
    for number in range(5):
        here.register("tuned", here.log(FILES), parents(("llama", 1)) if number in {1, 3} else {})
    looked_up: list[tuple[str, int]] = []
    in_full = moving._standing

    def noted(row: Any) -> moving.Standing:
        found = in_full(row)
        looked_up.append((found.facts.model, found.facts.version))
        return found

    monkeypatch.setattr(moving, "_standing", noted)
    here.client.rename_registered_model("llama", "renamed")
    assert set(looked_up) <= {("llama", 1), ("tuned", 2), ("tuned", 4)}
    for number in ("2", "4"):
        (link,) = links_of(described(here.client.get_model_version("tuned", number)))
        assert link.parent == ("renamed", 1)


def test_a_model_from_elsewhere_is_called_as_before_when_one_of_that_name_is_renamed(here: Place) -> None:
    here.register("llama", here.log(FILES))
    here.register("tuned", here.log(FILES), parents(("llama", 1), ("llama", 0)))
    here.client.rename_registered_model("llama", "renamed")
    found = described(here.client.get_model_version("tuned", "1"))
    assert [link.parent for link in links_of(found)] == [("llama", 0), ("renamed", 1)]


def test_of_many_children_a_few_are_named(here: Place) -> None:
    for step in range(25):
        here.register("llama", here.log(FILES), parents(("llama", 1)) if step else {})
    assert str(children(here, "llama", "1")).startswith("llama/2, llama/3, ")
    assert str(children(here, "llama", "1")).endswith(", llama/21 and 4 more")


def test_nobody_else_writes_what_was_made_from_a_version(here: Place) -> None:
    family(here)
    with pytest.raises(MlflowException, match="Use a name that does not begin with"):
        here.client.set_model_version_tag("llama", "1", "shardflow.children", "evil/1")
    with pytest.raises(MlflowException, match="Set it instead"):
        here.client.delete_model_version_tag("llama", "1", "shardflow.children")
    assert children(here, "llama", "1") == "llama/2"


def test_all_relatives_of_a_version_come_with_one_search(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    family(here)
    found, asked = find("llama/2"), []
    search = type(here.client).search_model_versions

    def counted(self: Any, *arguments: Any, **named: Any) -> Any:
        asked.append(arguments)
        return search(self, *arguments, **named)

    monkeypatch.setattr(type(here.client), "search_model_versions", counted)
    lineage = lineage_of(found, here.client)
    assert asked == [("shardflow.lineage = 'llama/2'",)]
    assert distances(lineage, lineage.of, towards="parents") == {("llama", 2): 0, ("llama", 1): 1}
    assert distances(lineage, lineage.of, towards="children") == {("llama", 2): 0, ("tuned", 1): 1, ("merged", 1): 1}
    assert title(lineage, ("llama", 1)) == "llama/1 (1.0.0), draft"


def test_what_is_not_related_is_not_told(here: Place) -> None:
    family(here)
    lineage = lineage_of(find("tuned/1"), here.client)
    assert sorted(lineage.versions) == [("llama", 1), ("llama", 2), ("merged", 1), ("tuned", 1)]
    # llama/2 gave rise to merged/1 directly as well, but that is no way from tuned/1
    assert Link(("merged", 1), ("llama", 2), "base") not in [
        link for link in lineage.links if link.parent == ("tuned", 1)
    ]


def parents_of(reference: str, here: Place) -> list[tuple[str, int]]:
    return [link.parent for link in lineage_of(find(reference), here.client).links]


def test_the_parent_that_a_logged_model_names_is_recorded_by_itself(here: Place) -> None:
    base = here.log(FILES)
    here.register("llama", base)
    here.register("tuned", here.log(FILES, tags={"shardflow.parent": base.model_id}))
    unregistered = here.log(FILES)
    here.register("other", here.log(FILES, tags={"shardflow.parent": unregistered.model_id}))
    here.register("lost", here.log(FILES, tags={"shardflow.parent": "m-" + "0" * 32}))
    assert parents_of("tuned/1", here) == [("llama", 1)]
    assert parents_of("other/1", here) == [(unregistered.model_id, 0)]
    assert parents_of("lost/1", here) == []


def test_a_copy_descends_from_what_it_is_a_copy_of(here: Place) -> None:
    here.register("llama", here.log(FILES))
    here.client.copy_model_version("models:/llama/1", "prod-llama")
    (link,) = lineage_of(find("prod-llama/1"), here.client).links
    assert (link.parent, link.relation) == (("llama", 1), "copy")


def test_a_registry_without_this_package_has_the_lineage_that_tags_tell(tmp_path: Path) -> None:
    with own_place(tmp_path, gated=False) as here:
        family(here)
        lineage = lineage_of(find("llama/2"), here.client)
        assert sorted(lineage.versions) == [("llama", 1), ("llama", 2), ("merged", 1), ("tuned", 1)]


def test_a_name_with_a_quote_is_found(here: Place) -> None:
    here.client.create_registered_model("ada's model")
    model = here.log(FILES)
    here.client.create_model_version("ada's model", f"models:/{model.model_id}", model_id=model.model_id)
    assert lineage_of(find("ada's model/1"), here.client).of == ("ada's model", 1)


def test_a_question_about_a_version_that_is_not_there_finds_nothing(here: Place) -> None:
    assert list(here.client.search_model_versions("shardflow.lineage = 'nothing/1'")) == []
    with pytest.raises(MlflowException):
        here.client.search_model_versions("shardflow.lineage = 'nothing'")


def test_the_run_the_code_and_the_data_are_told(here: Place) -> None:
    mlflow.set_experiment(experiment_id=here.experiment)
    with mlflow.start_run(run_name="tuning", tags={"mlflow.source.git.commit": "abc", "mlflow.user": "ada"}) as run:
        data = mlflow.data.from_numpy(np.zeros(3), source="https://data.example/set.npy", name="set")
        mlflow.log_input(data, context="training")
    here.register("llama", here.log(FILES, run_id=run.info.run_id))
    origin = lineage_of(find("llama/1"), here.client).origin
    assert (origin.run_name, origin.user, origin.commit) == ("tuning", "ada", "abc")
    (dataset,) = origin.datasets
    assert (dataset.name, dataset.source, dataset.context) == ("set", "https://data.example/set.npy", "training")


def test_how_far_apart_two_versions_are(here: Place) -> None:
    family(here)
    lineage = lineage_of(find("merged/1"), here.client)
    assert distance(lineage, ("merged", 1), ("llama", 1)) == 2
    assert distance(lineage, ("tuned", 1), ("merged", 1)) == 1
    assert distance(lineage, ("tuned", 1), ("stranger", 1)) is None


def chain(length: int, before: str = "") -> Lineage:
    links = tuple(Link(("m", number), ("m", number - 1), "base") for number in range(2, length + 1))
    return Lineage(("m", length), {}, links)


def test_a_tree_shows_a_version_that_is_reached_twice_in_full_once() -> None:
    diamond = Lineage(("d", 1), {}, (
        Link(("d", 1), ("b", 1), "base"), Link(("d", 1), ("c", 1), "merged"),
        Link(("b", 1), ("a", 1), "base"), Link(("c", 1), ("a", 1), "base"), Link(("a", 1), ("hub/bert", 0), "base"),
    ))  # fmt: skip
    lines = [(line.depth, line.name[0], line.again) for line in tree(diamond, towards="parents", deepest=9)]
    assert lines == [(1, "b", False), (2, "a", False), (3, "hub/bert", False), (1, "c", False), (2, "a", True)]
    assert title(diamond, ("hub/bert", 0)) == "hub/bert, from elsewhere"


def test_a_tree_of_any_depth_ends_where_it_was_asked_to_and_says_what_is_left() -> None:
    lines = list(tree(chain(5000), towards="parents", deepest=3))
    assert [(line.depth, line.more) for line in lines] == [(1, 0), (2, 0), (3, 4996)]


def test_a_circle_in_the_tags_of_a_stock_registry_ends() -> None:
    circle = Lineage(("a", 1), {}, (Link(("a", 1), ("b", 1), "base"), Link(("b", 1), ("a", 1), "base")))
    assert distances(circle, ("a", 1), towards="parents") == {("a", 1): 0, ("b", 1): 1}
    assert [line.again for line in tree(circle, towards="parents", deepest=9)] == [False, True]


def test_the_edges_of_a_thousand_deep_chain_are_found_in_a_moment(tmp_path: Path) -> None:
    from shardflow.registry.parents import edges_down, edges_up

    engine = create_engine(f"sqlite:///{tmp_path}/r.db")
    METADATA.create_all(engine)
    row = {"child_model": "m", "parent_model": "m", "relation": "base"}
    with engine.begin() as db:
        db.execute(insert(PARENTS), [{**row, "child_version": n + 1, "parent_version": n} for n in range(1, 1000)])
    with engine.connect() as db:
        edges_up(db, "m", 2)
        assert len(edges_up(db, "m", 1000)) == 999
        assert len(edges_down(db, "m", 1)) == 999
        # A benchmark measures it; this is against what grows.
        assert worked(lambda: (edges_up(db, "m", 1000), edges_down(db, "m", 1))) < 1


def test_a_line_through_many_models_is_told_whole_with_three_queries(here: Place) -> None:
    model = here.log(FILES)
    here.register("m-1", model)
    for number in range(2, 9):
        here.register(f"m-{number}", model, parents((f"m-{number - 1}", 1)))
    store = here.client._get_registry_client().store
    asked = []
    event.listen(store.engine, "before_cursor_execute", lambda *told: asked.append(told[2]))
    with store.ManagedSessionMaker() as db:
        found = relatives(db, "m-4", 1)
    assert [one.name for one in found] == [f"m-{number}" for number in range(1, 9)]
    assert [one.tags.get("shardflow.parents") is None for one in found] == [True] + 7 * [False]
    assert len([query for query in asked if query.startswith("WITH")]) == 3


class Reading(HTMLParser):
    """Which elements a page has, and what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_names_as_text_and_runs_nothing(here: Place) -> None:
    mlflow.set_experiment(experiment_id=here.experiment)
    evil = "<script>alert(1)</script>"
    with mlflow.start_run(run_name=evil, tags={"mlflow.user": evil}) as run:
        mlflow.log_input(mlflow.data.from_numpy(np.zeros(3), source=f"https://x.example/{evil}", name=evil))
    here.register("llama", here.log(FILES, run_id=run.info.run_id), parents((evil, 0)))
    reading = Reading()
    reading.feed(page(lineage_of(find("llama/1"), here.client)))
    assert reading.tags.isdisjoint({"script", "img", "iframe", "link", "object"})
    assert reading.text.count(evil) >= 4


def test_the_page_is_put_beside_the_model_and_is_no_part_of_it(here: Place) -> None:
    family(here)
    found = find("tuned/1")
    before = files_of(found.location)
    log_page(lineage_of(found, here.client), found.location)
    assert files_of(found.location) == before
    path = found.location.removeprefix(f"{here.store.url}/")
    with here.store.open(f"{path}/lineage.html") as file:
        text = file.read().decode()
    assert "llama/1 (1.0.0), draft" in text
    assert "merged/1, draft" in text
