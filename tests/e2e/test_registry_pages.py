"""MLflow's pages on a registry with a gate: what they show of a version, and how a refusal looks to whoever clicks.

Screenshots of the pages stay in build/screenshots, or where SHARDFLOW_SCREENSHOTS says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

import shardflow
from registry.live import Live, running
from registry.logged import write
from shardflow.cli.app import commands

if TYPE_CHECKING:
    from services.chromium import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.service("chromium"),
    pytest.mark.filterwarnings("ignore:.*transition_model_version_stage:FutureWarning"),
]

OLD_PAGES = "_mlflow_user_setting_dismiss_next_model_registry_ui"
"""What a click on "New model registry UI" sets: the pages without it have a menu of stages."""

STAGES = '//*[contains(@class, "stage-transition-dropdown")]'
DIALOG = '//*[@role="dialog"]'
ALIASES = '//button[contains(@data-component-id, "modelversionviewaliaseditor")]'


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server with a model `llama`: version 1 serves, version 2 was made from it, version 3 is in staging."""
    home = tmp_path_factory.mktemp("gated")
    root = ("--default-artifact-root", str(shardflow.init(str(home / "store")).url))
    with running(home, f"sqlite:///{home}/mlflow.db", *root) as live:
        live.client.create_registered_model("llama")
        register(live, "1.3.2")
        register(live, "1.4.0", '[{"model": "llama", "version": 1}]')
        register(live, "1.5.0")
        for version, stage in (("1", "Staging"), ("1", "Production"), ("3", "Staging")):
            live.client.transition_model_version_stage("llama", version, stage)
        yield live


def register(live: Live, semantic: str, parents: str | None = None) -> Any:
    """A version whose files are in a store."""
    logged = live.client.create_logged_model("0", name="model")
    write(logged.artifact_location, "MLmodel", b"flavors: {}")
    write(logged.artifact_location, "weights.bin", semantic.encode() * 1000)
    live.client.finalize_logged_model(logged.model_id, "READY")
    tags = {"shardflow.version": semantic} | ({"shardflow.parents": parents} if parents else {})
    return live.client.create_model_version("llama", f"models:/{logged.model_id}", tags=tags, model_id=logged.model_id)


def opened(browser: Browser, live: Live, version: int, *, old: bool = False) -> None:
    """The page of a version."""
    browser.open(live.uri)
    browser.driver.execute_script(f'localStorage.setItem("{OLD_PAGES}", "{str(old).lower()}")')
    browser.open(f"{live.uri}/#/models/llama/versions/{version}")
    browser.driver.refresh()


def choose(browser: Browser, stage: str) -> None:
    """The stage from the menu, and the dialog that follows."""
    click(browser, STAGES)
    click(browser, f'//li[@role="menuitem"][contains(., "{stage}")]')
    click(browser, f'{DIALOG}//button[normalize-space()="OK"]')


def click(browser: Browser, xpath: str) -> None:
    """Click on what may be drawn anew at this very moment."""
    browser.until(lambda: browser.find(xpath).click() or True, name=xpath)


def enter(browser: Browser, xpath: str, text: str) -> None:
    browser.until(lambda: browser.find(xpath).send_keys(text) or True, name=xpath)


def shows(browser: Browser, text: str) -> None:
    browser.find(f'//body//*[text()[contains(normalize-space(), "{text}")]]')


def test_a_stage_that_the_lifecycle_allows_is_chosen_from_the_menu(browser: Browser, gated: Live) -> None:
    opened(browser, gated, 3, old=True)
    choose(browser, "Production")
    browser.until(lambda: "Production" in browser.find(STAGES).text)
    browser.screenshot("registry-stage-allowed")
    assert gated.stages("llama") == {1: "Archived", 2: "None", 3: "Production"}
    moved, gave_way = gated.trail()[-2:]
    assert (moved.version, moved.after, moved.outcome) == (3, "production", "done")
    assert (gave_way.version, gave_way.after, gave_way.reason) == (1, "archived", "gives way to version 3")
    assert (moved.actor, moved.verified) == ("somebody at 127.0.0.1", False)


def test_a_stage_that_is_refused_stays_and_the_page_says_what_to_do_first(browser: Browser, gated: Live) -> None:
    opened(browser, gated, 2, old=True)
    choose(browser, "Production")
    shows(browser, "RESOURCE_CONFLICT: Move it to staging first (llama/2 is in draft")
    browser.screenshot("registry-stage-refused")
    browser.until(lambda: browser.find(STAGES).text == "None")
    assert gated.stages("llama")[2] == "None"
    refused(gated, "move", 2)


def test_an_alias_that_is_refused_is_explained_where_it_was_typed(browser: Browser, gated: Live) -> None:
    opened(browser, gated, 2)
    click(browser, ALIASES)
    enter(browser, f"{DIALOG}//input", "production\n")
    click(browser, f'{DIALOG}//button[normalize-space()="Save aliases"]')
    browser.find(f'{DIALOG}//*[@role="alert"][contains(., "Move it to staging first (llama/2 is in draft")]')
    browser.screenshot("registry-alias-refused")
    refused(gated, "move", 2)


def test_a_tag_of_the_registry_is_not_deleted_on_the_page(browser: Browser, gated: Live) -> None:
    opened(browser, gated, 2)
    click(browser, '(//*[@data-testid="editable-table-button-delete"])[1]')
    click(browser, f'{DIALOG}//button[normalize-space()="Confirm" or normalize-space()="Delete"]')
    browser.until(lambda: gated.trail()[-1].outcome == "refused")
    refused(gated, "tag", 2)
    assert set(gated.client.get_model_version("llama", "2").tags) == {
        "shardflow.parents",
        "shardflow.status",
        "shardflow.version",
    }


def test_a_status_is_not_forged_by_a_tag_that_is_typed_on_the_page(browser: Browser, gated: Live) -> None:
    opened(browser, gated, 2)
    enter(browser, '//*[@data-testid="tags-form-input-name"]', "shardflow.approved")
    enter(browser, '//*[@data-testid="tags-form-input-value"]', "yes")
    click(browser, '//*[@data-testid="add-tag-button"]')
    browser.until(lambda: gated.trail()[-1].after == "shardflow.approved")
    browser.screenshot("registry-tag-refused")
    refused(gated, "tag", 2)


def test_who_serves_is_not_deleted_on_the_page(browser: Browser, gated: Live) -> None:
    serving = next(version for version, stage in gated.stages("llama").items() if stage == "Production")
    opened(browser, gated, serving)
    click(browser, '//*[@data-testid="overflow-menu-trigger"]')
    browser.find('//*[@role="menuitem"][@data-testid="delete"]')
    deletion = f"return fetch('ajax-api/2.0/mlflow/model-versions/delete', {{method: 'DELETE', body: JSON.stringify({{\
name: 'llama', version: '{serving}'}}), headers: {{'Content-Type': 'application/json'}}}}).then(r => r.text())"
    # The page offers no deletion of what is in a stage, but who clicks can send what it would.
    assert f"Archive llama/{serving} first" in browser.driver.execute_script(deletion)
    refused(gated, "delete", serving)


def test_the_page_of_a_version_shows_its_semantic_version_its_status_and_where_it_comes_from(
    browser: Browser, gated: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(browser, gated, 2)
    for text in ("shardflow.version", "1.4.0", "shardflow.status", "draft", "shardflow.parents", "v1-4-0"):
        shows(browser, text)
    browser.screenshot("registry-version")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", gated.uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", gated.uri)
    done = CliRunner().invoke(commands, ["lineage", "llama@1.4.0", "--page"])
    assert done.exit_code == 0, done.output
    model = gated.client.get_model_version("llama", "2").source.removeprefix("models:/")
    browser.open(f"{gated.uri}/#/experiments/0/models/{model}/artifacts")
    click(browser, '//*[@data-testid="artifact-tree-node"][@artifact-name="lineage.html"]')
    browser.driver.switch_to.frame(browser.find("//iframe"))
    browser.find('//h1[contains(., "Lineage of llama/2")]')
    shows(browser, "llama/1 (1.3.2)")
    browser.driver.switch_to.default_content()
    browser.screenshot("registry-lineage")


def refused(live: Live, action: str, version: int) -> None:
    """The last thing that happened is a refusal, and nothing has moved."""
    last = live.trail()[-1]
    assert (last.action, last.version, last.outcome) == (action, version, "refused")
    assert live.verified().flaws == ()
