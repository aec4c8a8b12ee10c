"""Ways around the gate as gestures on MLflow's pages, and which of them the pages have no gesture for.

Pages do not offer what they know to be wrong, so some gestures are made on a page that was opened before somebody else
changed the model. The names are those of `bypasses`; the model is prepared as there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from registry.live import Live

if TYPE_CHECKING:
    from services.chromium import Browser

OLD_PAGES = "_mlflow_user_setting_dismiss_next_model_registry_ui"
"""What a click on "New model registry UI" sets: the pages without it have a menu of stages."""

STAGES = '//*[contains(@class, "stage-transition-dropdown")]'
DIALOG = '//*[@role="dialog"]'
ALIASES = '//button[contains(@data-component-id, "modelversionviewaliaseditor")]'
MENU = '//*[@data-testid="overflow-menu-trigger"]'
DELETE = '//*[@role="menuitem"][@data-testid="delete"]'
REMOVE_TAG = '(//*[@data-testid="editable-table-button-delete"])[1]'
EDIT_TAG = '(//*[@data-testid="editable-table-button-edit"])[1]'
TYPED = '//*[@data-testid="editable-table-edited-input"]'
BACKSPACE, CONTROL, RELEASED = "\ue003", "\ue009", "\ue000"  # as the protocol of browsers writes keys

_LOADS = count()

Come = Callable[["Browser", Live], None]
Do = Callable[["Browser"], None]


@dataclass(frozen=True)
class Gesture:
    """How to come to the page, and what is done there; `picture` names a screenshot of the answer."""

    come: Come
    do: Do
    picture: str | None = None


def opened(browser: Browser, live: Live, path: str, *, old: bool = False) -> None:
    """A page as somebody finds it who comes to it anew."""
    if not browser.driver.current_url.startswith(live.uri):
        browser.open(f"{live.uri}/health")  # the least that has the settings of the pages
    browser.driver.execute_script(f'localStorage.setItem("{OLD_PAGES}", "{str(old).lower()}")')
    browser.open(f"{live.uri}/?{next(_LOADS)}#/models/{path}")


def click(browser: Browser, xpath: str) -> None:
    """Click on what may be drawn anew at this very moment."""
    browser.until(lambda: browser.find(xpath).click() or True, name=xpath)


def enter(browser: Browser, xpath: str, text: str) -> None:
    browser.until(lambda: browser.find(xpath).send_keys(text) or True, name=xpath)


def choose(browser: Browser, stage: str, *, archiving: bool = True) -> None:
    """The stage from the menu, and the dialog that follows."""
    click(browser, STAGES)
    click(browser, f'//li[@role="menuitem"][contains(., "{stage}")]')
    if not archiving:
        click(browser, f'{DIALOG}//label[contains(., "Transition existing")]')
    click(browser, f'{DIALOG}//button[normalize-space()="OK"]')


def version(number: int, *, old: bool = False) -> Come:
    return lambda browser, live: opened(browser, live, f"llama/versions/{number}", old=old)


def tags_of_the_model(browser: Browser, live: Live) -> None:
    opened(browser, live, "llama")
    click(browser, '//*[normalize-space(text())="Tags"]')


def before_it_was_in_use(path: str, *versions: str) -> Come:
    """A page that offers to delete what others rely on by now."""

    def come(browser: Browser, live: Live) -> None:
        stages = {one: live.stages("llama")[int(one)] for one in versions}
        for one in versions:
            live.client.transition_model_version_stage("llama", one, "Archived")
        opened(browser, live, path)
        click(browser, MENU)
        browser.find(f'{DELETE}[@aria-disabled="false"]')
        for one, stage in stages.items():
            live.client.transition_model_version_stage("llama", one, stage)

    return come


def deleted(browser: Browser) -> None:
    click(browser, DELETE)
    click(browser, f'{DIALOG}//button[normalize-space()="Delete"]')


def alias(text: str) -> Do:
    def do(browser: Browser) -> None:
        click(browser, ALIASES)
        enter(browser, f"{DIALOG}//input", text)
        click(browser, f'{DIALOG}//button[normalize-space()="Save aliases"]')

    return do


def tag(key: str, value: str) -> Do:
    def do(browser: Browser) -> None:
        enter(browser, '//*[@data-testid="tags-form-input-name"]', key)
        enter(browser, '//*[@data-testid="tags-form-input-value"]', value)
        click(browser, '//*[@data-testid="add-tag-button"]')

    return do


def status_edited(browser: Browser) -> None:
    click(browser, EDIT_TAG)
    enter(browser, TYPED, f"{CONTROL}a{RELEASED}production")
    click(browser, '//*[@data-testid="editable-table-button-save"]')


def status_removed(browser: Browser) -> None:
    click(browser, REMOVE_TAG)
    click(browser, f'{DIALOG}//button[normalize-space()="Confirm" or normalize-space()="Delete"]')


GESTURES: dict[str, Gesture] = {
    "a stage that no path leads to": Gesture(
        version(3, old=True), lambda browser: choose(browser, "Production", archiving=False)
    ),
    "the same, archiving who serves": Gesture(
        version(3, old=True), lambda browser: choose(browser, "Production"), "registry-stage-refused"
    ),
    "the alias of a status": Gesture(version(3), alias("production\n"), "registry-alias-refused"),
    "the name of a status without alias": Gesture(version(1), alias("archived\n")),
    "an alias of a semantic version": Gesture(version(3), alias("v9-9-9\n")),
    "taking the alias from who serves": Gesture(version(1), alias(BACKSPACE)),
    "the tag of the status": Gesture(version(3), status_edited),
    "a tag of the registry that means nothing": Gesture(
        version(3), tag("shardflow.approved", "yes"), "registry-tag-refused"
    ),
    "the tag of the status in capitals": Gesture(version(3), tag("SHARDFLOW.STATUS", "production")),
    "removing the tag of the status": Gesture(version(1), status_removed),
    "a model that becomes a prompt": Gesture(tags_of_the_model, tag("mlflow.prompt.is_prompt", "true")),
    "the same in capitals, which some databases take for it": Gesture(
        tags_of_the_model, tag("MLflow.Prompt.Is_Prompt", "true")
    ),
    "a tag of the registry on a model": Gesture(tags_of_the_model, tag("shardflow.policy", "none")),
    "deleting who serves": Gesture(before_it_was_in_use("llama/versions/1", "1"), deleted, "registry-delete-refused"),
    "deleting what is in staging": Gesture(before_it_was_in_use("llama/versions/2", "2"), deleted),
    "deleting the model of who serves": Gesture(before_it_was_in_use("llama", "1", "2"), deleted),
    "a tag that some databases take for that of the status": Gesture(version(1), tag("shârdflow.status", "draft")),
}

_NO_TAGS = "the dialogs that register a model or a version ask for no tags"
_FROM_ITS_LIST = "the number comes from the address of the page, which has to be a plain one"
_SMALL = "what is typed as an alias is turned into small letters, and what is none of them is left out"

WITHOUT_GESTURE: dict[str, str] = {
    "the alias of a status in other letters": _SMALL,
    "a version registered with a forged status": _NO_TAGS,
    "a version registered with a forged approval": _NO_TAGS,
    "a copy that says that it serves": "a copy is made by 'Promote model', which adds no tags of its own",
    "files of a model under the name of a prompt, which has no lifecycle": "prompts are not offered as models",
    "a model registered with a tag of the registry": _NO_TAGS,
    "another name, for which another policy holds": "no page renames a model",
    "a version as MLflow reads it and nobody writes it": _FROM_ITS_LIST,
    "the alias of a status for such a version": _FROM_ITS_LIST,
    "the tag of the status for such a version": _FROM_ITS_LIST,
    "deleting who serves, written so": _FROM_ITS_LIST,
    "an alias that some databases take for that of a status": _SMALL,
    "taking the alias away in such letters": "aliases are taken away by what they are shown as",
    "an alias that some databases take for that of a semantic version": _SMALL,
}
