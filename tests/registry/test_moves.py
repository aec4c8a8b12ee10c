"""Moves between statuses: every word for a move is the same act, and everything MLflow shows follows from it."""

from __future__ import annotations

import pytest
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import text

from registry.opened import Registry, Rules, opened
from shardflow.registry.lifecycle import MOVES, STAGES, not_allowed, status_of_stage
from shardflow.registry.refusals import Refused
from shardflow.registry.terms import Actor, Facts, Move, Status


def move(before: Status, after: Status) -> Move:
    return Move("llama", 3, before, after, Actor("ada"), 1.0)


def test_every_status_can_be_reached_and_left() -> None:
    reached = {Status.DRAFT}
    for _ in Status:
        reached |= {after for before in reached for after in MOVES[before]}
    assert reached == set(Status)
    assert all(MOVES[status] for status in Status)


def test_a_version_that_never_served_does_not_come_back_from_the_archive_to_production() -> None:
    back = move(Status.ARCHIVED, Status.PRODUCTION)
    refusal = not_allowed(back, served=False)
    assert refusal is not None
    assert refusal.remedy == "move it to staging first"
    assert not_allowed(back, served=True) is None


def test_a_refusal_names_the_next_step_towards_the_status_or_what_is_possible_at_all() -> None:
    far = not_allowed(move(Status.DRAFT, Status.PRODUCTION), served=False)
    assert far is not None
    assert str(far) == "move it to staging first (llama/3 is in draft, and there is no way from there to production)"
    nowhere = not_allowed(move(Status.PRODUCTION, Status.DRAFT), served=True)
    assert nowhere is not None
    assert nowhere.remedy == "move it to archived first"


@pytest.mark.parametrize("status", Status)
def test_a_stage_and_its_status_mean_each_other(status: Status) -> None:
    back = status_of_stage(STAGES[status].lower())
    assert back is (Status.DRAFT if status is Status.TESTING else status)


@pytest.mark.parametrize("word", ["stage", "alias", "tag"])
def test_a_promotion_looks_the_same_in_whatever_words_it_was_asked_for(any_registry: Registry, word: str) -> None:
    any_registry.register(versions=2)
    for status in ("staging", "production"):
        _asked(any_registry, word, 1, status)
    _asked(any_registry, word, 2, "staging")

    first, second = any_registry.version("llama", 1), any_registry.version("llama", 2)
    assert (first.current_stage, first.aliases) == ("Production", ["production"])
    assert (second.current_stage, second.aliases) == ("Staging", ["staging"])
    assert first.tags["shardflow.status"] == "production"
    moves = [row for row in any_registry.told() if row[0] == "move"]
    assert moves == [
        ("move", "llama", 1, "draft", "staging", "done"),
        ("move", "llama", 1, "staging", "production", "done"),
        ("move", "llama", 2, "draft", "staging", "done"),
    ]
    assert any_registry.verified().flaws == ()


def _asked(registry: Registry, word: str, version: int, status: str) -> None:
    if word == "stage":
        registry.store.transition_model_version_stage("llama", version, status.title(), False)
    elif word == "alias":
        registry.store.set_registered_model_alias("llama", status, version)
    else:
        registry.store.set_model_version_tag("llama", version, ModelVersionTag("shardflow.status", status))


def test_who_comes_to_production_takes_the_place_of_who_was_there(any_registry: Registry) -> None:
    any_registry.register(versions=2)
    any_registry.promote("llama", 1, "staging", "production")
    any_registry.promote("llama", 2, "staging", "production: it is better")
    assert any_registry.statuses() == {1: "archived", 2: "production"}
    assert any_registry.version("llama", 1).current_stage == "Archived"
    assert any_registry.version("llama", 1).aliases == []
    assert any_registry.store.get_model_version_by_alias("llama", "production").version == 2
    better, gave_way = any_registry.trail()[-2:]
    assert (better.reason, gave_way.reason) == ("it is better", "gives way to version 2")


def test_what_has_served_can_be_put_back_at_once(registry: Registry) -> None:
    registry.register(versions=2)
    registry.promote("llama", 1, "staging", "production")
    registry.promote("llama", 2, "staging", "production")
    registry.promote("llama", 1, "production")
    assert registry.statuses() == {1: "production", 2: "archived"}


def test_several_versions_may_be_in_staging_unless_the_others_are_to_be_archived(registry: Registry) -> None:
    registry.register(versions=3)
    registry.promote("llama", 1, "staging")
    registry.promote("llama", 2, "staging")
    assert registry.statuses() == {1: "staging", 2: "staging", 3: "draft"}
    assert registry.store.get_model_version_by_alias("llama", "staging").version == 2
    registry.store.transition_model_version_stage("llama", 3, "Staging", archive_existing_versions=True)
    assert registry.statuses() == {1: "archived", 2: "archived", 3: "staging"}


def test_an_alias_of_a_status_goes_back_to_who_came_before_when_its_version_leaves(registry: Registry) -> None:
    registry.register(versions=2)
    registry.promote("llama", 1, "testing")
    registry.promote("llama", 2, "testing")
    registry.promote("llama", 2, "archived")
    assert registry.store.get_model_version_by_alias("llama", "testing").version == 1
    registry.promote("llama", 1, "draft")
    with pytest.raises(MlflowException, match="alias testing not found"):
        registry.store.get_model_version_by_alias("llama", "testing")


def test_a_policy_hears_of_everyone_who_has_to_move_and_of_who_asked(sqlite_uri: str) -> None:
    rules = Rules()
    with opened(sqlite_uri, rules) as registry:
        registry.register(versions=2)
        registry.promote("llama", 1, "staging", "production")
        rules.asked.clear()
        registry.promote("llama", 2, "staging", "production: faster")
    staging, production, gives_way = rules.asked
    assert (staging.before, staging.after) == (Status.DRAFT, Status.STAGING)
    assert (production.version, production.reason, production.actor.verified) == (2, "faster", False)
    assert (gives_way.version, gives_way.after) == (1, Status.ARCHIVED)


def test_a_move_that_the_policy_refuses_changes_nothing_and_is_noted_with_the_reason(database_uri: str) -> None:
    rules = Rules(lambda move, _: "evaluate it first" if move.after is Status.PRODUCTION else None)
    with opened(database_uri, rules) as registry:
        registry.register()
        registry.promote("llama", 1, "staging")
        with pytest.raises(Refused, match=r"Evaluate it first \(the policy says so\)") as refused:
            registry.store.transition_model_version_stage("llama", 1, "Production", True)
        assert refused.value.error_code == "PERMISSION_DENIED"
        assert registry.version("llama", 1).current_stage == "Staging"
        last = registry.trail()[-1]
        assert (last.action, last.outcome, last.before, last.after) == ("move", "refused", "staging", "production")
        assert last.evidence is not None
        assert "Evaluate it first" in last.evidence
        assert registry.verified().flaws == ()


def test_a_promotion_is_refused_as_a_whole_if_who_serves_may_not_be_archived(sqlite_uri: str) -> None:
    rules = Rules(lambda move, _: "leave it" if move.after is Status.ARCHIVED else None)
    with opened(sqlite_uri, rules) as registry:
        registry.register(versions=2)
        registry.promote("llama", 1, "staging", "production")
        registry.promote("llama", 2, "staging")
        with pytest.raises(Refused, match="llama/1 would have to give way, and the policy says so"):
            registry.promote("llama", 2, "production")
        assert registry.statuses() == {1: "production", 2: "staging"}


def test_facts_are_gathered_only_for_moves_that_need_them_and_while_nobody_waits(sqlite_uri: str) -> None:
    seen = []

    def gathered(move: Move) -> Facts:
        other.register("bert")  # another act, which would wait for ever if this one held its turn
        seen.append(move.after)
        return Facts(metrics={"accuracy": 0.9}, production=None)

    rules = Rules(lambda _, facts: None if facts.metrics["accuracy"] > 0.8 else "train it", frozenset({"metrics"}))
    rules.facts = gathered
    with opened(sqlite_uri, rules) as registry, opened(sqlite_uri) as other:
        registry.register()
        registry.promote("llama", 1, "staging")
        assert seen == [Status.STAGING]
        assert registry.statuses() == {1: "staging"}
        assert registry.verified().flaws == ()


def test_what_was_gathered_for_another_state_of_things_does_not_count(sqlite_uri: str) -> None:
    versions_in_production = []

    def gathered(move: Move) -> Facts:
        versions_in_production.append(other.serving())
        if len(versions_in_production) == 1:
            other.promote("llama", 2, "staging", "production")
        return Facts(metrics={}, production=None)

    rules = Rules(wanted=frozenset({"production"}), facts=gathered)
    with opened(sqlite_uri) as other:
        other.register(versions=2)
        other.promote("llama", 1, "staging")
        with opened(sqlite_uri, rules) as registry:
            registry.store.transition_model_version_stage("llama", 1, "Production", False)
            assert versions_in_production == [[], [2], [2]]
            assert registry.statuses() == {1: "production", 2: "archived"}


def test_asking_for_what_is_so_already_is_no_move(registry: Registry) -> None:
    registry.register()
    registry.promote("llama", 1, "staging")
    before = len(registry.trail())
    registry.store.transition_model_version_stage("llama", 1, "Staging", True)
    registry.store.set_registered_model_alias("llama", "staging", 1)
    assert len(registry.trail()) == before


def test_the_alias_of_a_status_goes_to_another_version_in_it_with_a_row_in_the_history(any_registry: Registry) -> None:
    any_registry.register(versions=2)
    for version in (1, 2):
        any_registry.promote("llama", version, "staging")
    rows = len(any_registry.trail())
    for version in (1, 1, 2):
        any_registry.store.set_registered_model_alias("llama", "staging", version)
        assert any_registry.store.get_model_version_by_alias("llama", "staging").version == version
    assert any_registry.told()[rows:] == [
        ("alias", "llama", 1, "staging: 2", "staging: 1", "done"),
        ("alias", "llama", 2, "staging: 1", "staging: 2", "done"),
    ]
    assert any_registry.statuses() == {1: "staging", 2: "staging"}


def test_the_alias_of_a_status_goes_back_to_who_came_before_when_its_version_is_deleted(
    any_registry: Registry,
) -> None:
    any_registry.register(versions=4)
    for version in (2, 1, 3):
        any_registry.promote("llama", version, "testing")
    for version, successor in ((4, 3), (3, 1), (1, 2)):
        any_registry.store.delete_model_version("llama", version)
        assert any_registry.store.get_registered_model("llama").aliases == {"testing": successor}
    any_registry.store.delete_model_version("llama", 2)
    assert any_registry.store.get_registered_model("llama").aliases == {}


def test_others_do_not_leave_ungated_when_a_version_is_moved_to_where_it_is(sqlite_uri: str) -> None:
    rules = Rules(lambda move, _: "leave it" if move.after is Status.ARCHIVED and move.version == 1 else None)
    with opened(sqlite_uri, rules) as registry:
        registry.register(versions=3)
        for version in (1, 2, 3):
            registry.promote("llama", version, "staging")
        with pytest.raises(Refused, match="Leave it"):
            registry.store.transition_model_version_stage("llama", 2, "Staging", archive_existing_versions=True)
        assert registry.version("llama", 1).current_stage == "Staging"
        rules.against = lambda _move, _facts: None
        registry.store.transition_model_version_stage("llama", 2, "Staging", archive_existing_versions=True)
        assert registry.statuses() == {1: "archived", 2: "staging", 3: "archived"}
        moved = [(row.version, row.after, row.reason) for row in registry.trail()[-2:]]
        assert moved == [(1, "archived", "gives way to version 2"), (3, "archived", "gives way to version 2")]
        assert registry.verified().flaws == ()


def test_what_a_policy_asks_of_a_version_itself_is_not_looked_up(sqlite_uri: str) -> None:
    def not_asked(_: Move) -> Facts:
        raise AssertionError("the time in a status is read with the version")

    rules = Rules(lambda _, facts: None if facts.entered_at else "wait", frozenset({"entered_at"}), not_asked)
    with opened(sqlite_uri, rules) as registry:
        registry.register()
        registry.promote("llama", 1, "staging")
        assert registry.statuses() == {1: "staging"}


def test_versions_from_before_have_the_status_of_their_stage(stock_store: object, tmp_path: object) -> None:
    stock = stock_store
    stock.create_registered_model("old")  # type: ignore[attr-defined]
    for stage in ("None", "Staging", "Production", "Production", "Archived"):
        version = stock.create_model_version("old", "file:///model")  # type: ignore[attr-defined]
        stock.transition_model_version_stage("old", version.version, stage, False)  # type: ignore[attr-defined]
    with opened(stock.db_uri) as registry:  # type: ignore[attr-defined]
        statuses = registry.statuses("old")
        assert statuses == {1: "draft", 2: "staging", 3: "production", 4: "production", 5: "archived"}
        registry.promote("old", 2, "production")
        assert registry.statuses("old") == {1: "draft", 2: "production", 3: "archived", 4: "archived", 5: "archived"}
        registry.promote("old", 3, "production")  # it has served, whoever put it there
        assert registry.serving("old") == [3]


def test_a_status_that_does_not_exist_and_a_reason_that_is_no_line_are_refused(registry: Registry) -> None:
    registry.register()
    with pytest.raises(Refused, match="Name one of draft, testing, staging, production, archived") as refused:
        registry.promote("llama", 1, "live")
    assert refused.value.error_code == "INVALID_PARAMETER_VALUE"
    with pytest.raises(Refused, match="in one line"):
        registry.promote("llama", 1, "testing: two\nlines")
    assert registry.statuses() == {1: "draft"}


def test_what_a_move_finds_taken_away_around_the_registry_is_put_back(any_registry: Registry) -> None:
    any_registry.register(versions=2)
    any_registry.promote("llama", 1, "staging", "production")
    any_registry.promote("llama", 2, "staging")
    with any_registry.store.engine.begin() as db:
        db.execute(text("DELETE FROM model_version_tags WHERE version = 1"))
        db.execute(text("DELETE FROM registered_model_aliases"))
        db.execute(text("DELETE FROM shardflow_versions WHERE version = 2"))
    any_registry.promote("llama", 2, "production")
    assert any_registry.statuses() == {1: "archived", 2: "production"}
    first, second = (any_registry.version("llama", version) for version in (1, 2))
    assert [first.tags, first.aliases] == [{"shardflow.status": "archived"}, []]
    assert [second.tags, second.aliases] == [{"shardflow.status": "production"}, ["production"]]
    assert any_registry.facts()[2].served


def test_the_trail_keeps_the_words_of_a_move_as_they_were_said(any_registry: Registry) -> None:
    any_registry.register("lläma")
    reason = 'über "alles" \\ \\u0041 %s :x {} €'
    any_registry.promote("lläma", 1, f"staging: {reason}")
    assert any_registry.trail()[-1].reason == reason
    assert any_registry.verified().flaws == ()


def test_a_move_gives_the_version_as_mlflow_itself_tells_it_and_touches_its_model(any_registry: Registry) -> None:
    any_registry.register(framework="torch")
    any_registry.store.set_registered_model_alias("llama", "candidate", 1)
    any_registry.store.update_model_version("llama", 1, "made to be moved")
    before = any_registry.store.get_registered_model("llama").last_updated_timestamp or 0
    for stage in ("Staging", "Production"):
        given = any_registry.store.transition_model_version_stage("llama", 1, stage, True)
        assert vars(given) == vars(any_registry.version("llama", 1))
    assert (given.current_stage, given.aliases) == ("Production", ["candidate", "production"])
    assert given.tags == {"framework": "torch", "shardflow.status": "production"}
    model = any_registry.store.get_registered_model("llama")
    assert model.last_updated_timestamp == given.last_updated_timestamp > before


def test_the_aliases_of_a_version_are_those_that_mlflow_itself_tells(any_registry: Registry) -> None:
    any_registry.register(versions=2)
    any_registry.register("other")
    for model, version, alias in (("llama", 1, "b"), ("llama", 1, "a"), ("llama", 2, "c"), ("other", 1, "b")):
        any_registry.store.set_registered_model_alias(model, alias, version)
    ours = any_registry.version("llama", 1)
    with any_registry.store.ManagedSessionMaker() as session:
        told = SqlAlchemyStore._populate_model_version_aliases(any_registry.store, session, "llama", ours)
        assert sorted(told.aliases) == ["a", "b"]
    assert any_registry.version("llama", 1).aliases == ["a", "b"]
    assert any_registry.store.get_model_version_by_alias("llama", "c").aliases == ["c"]
