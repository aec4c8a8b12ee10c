"""MLflow's pages on a registry with a gate: what they show of a version, and how a refusal looks to whoever clicks.

Every way around the gate that the pages have a gesture for is tried with it. `registry.gestures` lists them, and says
of each of the others why no page can do it. Screenshots stay in build/screenshots, or where SHARDFLOW_SCREENSHOTS says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import shardflow
from registry.bypasses import BYPASSES, prepare
from registry.gestures import DIALOG, GESTURES, STAGES, WITHOUT_GESTURE, choose, click, opened
from registry.live import Live, running
from registry.logged import write
from shardflow.cli.app import commands
from shardflow.registry.asking import head_told, trail_of

if TYPE_CHECKING:
    from services.chromium import Browser

pytestmark = [pytest.mark.slow, pytest.mark.service("chromium")]

BY_NAME = {one.name: one for one in BYPASSES}
TAGS_OF_A_LINE = '(//button[contains(@data-component-id, "keyvaluetagseditorcell")])[{}]'


@pytest.fixture
def browser(shared_browser: Browser) -> Browser:
    """Every test loads its pages anew, so that one browser does for all."""
    return shared_browser


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with two models.

    `llama` is prepared for the ways around the gate. Of `gemma`, version 1 serves, version 2 was made from it, and
    version 3 is in staging.
    """
    home = tmp_path_factory.mktemp("gated")
    root = ("--default-artifact-root", str(shardflow.init(str(home / "store")).url))
    with running(home, f"sqlite:///{home}/mlflow.db", *root) as live:
        prepare(live.client)
        live.client.create_registered_model("gemma")
        register(live, "1.3.2")
        register(live, "1.4.0", '[{"model": "gemma", "version": 1}]')
        register(live, "1.5.0")
        for version, stage in (("1", "Staging"), ("1", "Production"), ("3", "Staging")):
            live.client.transition_model_version_stage("gemma", version, stage)
        yield live


def register(live: Live, semantic: str, parents: str | None = None) -> Any:
    """A version whose files are in a store."""
    logged = live.client.create_logged_model("0", name="model")
    write(logged.artifact_location, "MLmodel", b"flavors: {}")
    write(logged.artifact_location, "weights.bin", semantic.encode() * 1000)
    live.client.finalize_logged_model(logged.model_id, "READY")
    tags = {"shardflow.version": semantic} | ({"shardflow.parents": parents} if parents else {})
    return live.client.create_model_version("gemma", f"models:/{logged.model_id}", tags=tags, model_id=logged.model_id)


def shows(browser: Browser, text: str) -> None:
    browser.find(f'//body//*[text()[contains(normalize-space(), "{text}")]]')


def shown_of(live: Live, model: str) -> list[Any]:
    """All that MLflow shows of a model."""
    found = live.client.get_registered_model(model)
    versions = live.client.search_model_versions(f"name = '{model}'")
    return [found.aliases, found.tags, sorted((one.version, one.current_stage, one.tags) for one in versions)]


def refused(live: Live, after: int, action: str) -> None:
    """All that happened since then is one refusal."""
    (noted,) = trail_of(live.client, after=after)
    assert (noted.action, noted.outcome) == (action, "refused")
    assert (noted.actor, noted.verified) == ("somebody at 127.0.0.1", False)


def last_row(live: Live) -> int:
    head = head_told(live.client)
    assert head
    return head.seq


@pytest.mark.parametrize("name", GESTURES)
def test_a_gesture_around_the_gate_is_refused_with_the_reason_on_the_page_and_in_the_trail(
    browser: Browser, gated: Live, name: str
) -> None:
    gesture, known = GESTURES[name], BY_NAME[name]
    gesture.come(browser, gated)
    before, seq = shown_of(gated, "llama"), last_row(gated)
    gesture.do(browser)
    browser.find(f'//*[@role="alert"][contains(., "{known.answer}")]')
    if gesture.picture:
        browser.screenshot(gesture.picture)
    assert shown_of(gated, "llama") == before
    refused(gated, seq, known.action)


def test_of_every_way_around_the_gate_it_is_known_whether_a_page_has_a_gesture_for_it() -> None:
    assert GESTURES.keys() | WITHOUT_GESTURE.keys() == BY_NAME.keys()
    assert not GESTURES.keys() & WITHOUT_GESTURE.keys()


def test_a_tag_of_the_registry_is_not_removed_in_the_list_of_versions_either(browser: Browser, gated: Live) -> None:
    opened(browser, gated, "llama")
    before, seq = shown_of(gated, "llama"), last_row(gated)
    click(browser, TAGS_OF_A_LINE.format(3))
    click(
        browser,
        f'{DIALOG}//button[contains(@data-component-id, "keyvaluetag") and contains(@data-component-id, "close")]',
    )
    click(browser, f'{DIALOG}//button[normalize-space()="Save tags"]')
    browser.find(f'{DIALOG}//*[@role="alert"][contains(., "Set it instead")]')
    assert shown_of(gated, "llama") == before
    refused(gated, seq, "tag")


def test_what_is_promoted_to_another_model_on_the_page_begins_there_as_a_draft(browser: Browser, gated: Live) -> None:
    gated.client.create_registered_model("served")
    opened(browser, gated, "llama/versions/1")
    click(browser, '//button[contains(@data-component-id, "promotemodelbutton")]')
    click(browser, f"{DIALOG}//input")
    click(browser, '//*[contains(@class, "select-item-option")][contains(., "served")]')
    click(browser, f'{DIALOG}//button[normalize-space()="Promote"]')
    browser.until(lambda: gated.stages("served") == {1: "None"})
    copy = gated.client.get_model_version("served", "1")
    assert (copy.source, copy.tags) == ("models:/llama/1", {"shardflow.status": "draft"})
    assert gated.stages("llama") == {1: "Production", 2: "Staging", 3: "None"}


def test_a_stage_that_the_lifecycle_allows_is_chosen_from_the_menu(browser: Browser, gated: Live) -> None:
    opened(browser, gated, "gemma/versions/3", old=True)
    choose(browser, "Production")
    browser.until(lambda: "Production" in browser.find(STAGES).text)
    browser.screenshot("registry-stage-allowed")
    assert gated.stages("gemma") == {1: "Archived", 2: "None", 3: "Production"}
    moved, gave_way = gated.trail()[-2:]
    assert (moved.version, moved.after, moved.outcome) == (3, "production", "done")
    assert (gave_way.version, gave_way.after, gave_way.reason) == (1, "archived", "gives way to version 3")
    assert (moved.actor, moved.verified) == ("somebody at 127.0.0.1", False)


def test_a_stage_that_is_refused_stays_as_it_was_on_the_page(browser: Browser, gated: Live) -> None:
    opened(browser, gated, "gemma/versions/2", old=True)
    choose(browser, "Production")
    shows(browser, "RESOURCE_CONFLICT: Move it to staging first (gemma/2 is in draft")
    browser.until(lambda: browser.find(STAGES).text == "None")
    assert gated.stages("gemma")[2] == "None"


def test_no_page_offers_to_delete_who_serves(browser: Browser, gated: Live) -> None:
    for path in ("llama", "llama/versions/1"):
        opened(browser, gated, path)
        click(browser, '//*[@data-testid="overflow-menu-trigger"]')
        browser.find('//*[@role="menuitem"][@data-testid="delete"][@aria-disabled="true"]')
        assert [item.text for item in browser.driver.find_elements("xpath", '//*[@role="menuitem"]')] == ["Delete"]


def test_the_page_of_a_version_shows_its_semantic_version_its_status_and_where_it_comes_from(
    browser: Browser, gated: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(browser, gated, "gemma/versions/2")
    for text in ("shardflow.version", "1.4.0", "shardflow.status", "draft", "shardflow.parents", "v1-4-0"):
        shows(browser, text)
    browser.screenshot("registry-version")
    opened(browser, gated, "gemma/versions/1")
    for text in ("shardflow.children", "gemma/2"):
        shows(browser, text)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gated.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", gated.uri)
    done = CliRunner().invoke(commands, ["lineage", "gemma@1.4.0", "--page"])
    assert done.exit_code == 0, done.output
    model = gated.client.get_model_version("gemma", "2").source.removeprefix("models:/")
    browser.open(f"{gated.uri}/#/experiments/0/models/{model}/artifacts")
    click(browser, '//*[@data-testid="artifact-tree-node"][@artifact-name="lineage.html"]')
    browser.driver.switch_to.frame(browser.find("//iframe"))
    browser.find('//h1[contains(., "Lineage of gemma/2")]')
    shows(browser, "gemma/1 (1.3.2)")
    browser.driver.switch_to.default_content()
    browser.screenshot("registry-lineage")


def test_after_all_of_this_the_trail_is_sound(gated: Live) -> None:
    assert gated.verified().flaws == ()
